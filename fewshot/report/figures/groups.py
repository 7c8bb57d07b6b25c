"""Lesion Dice by size or by kind of lesion."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal

from fewshot.report.content import Share, TargetContent
from fewshot.report.figures.ladder import Ladder, Rung, around, lay_out, whisker
from fewshot.report.figures.series import Look
from fewshot.report.figures.theme import Drawing, themed

MOST = 6


def groups(target: TargetContent, looks: Mapping[str, Look], by: Literal["sizes", "labels"]) -> Drawing | None:
    """Draw lesion Dice with intervals in each group of queries, of the first rows of the content.

    Returns:
        None where there is no group.
    """
    shares = target.sizes if by == "sizes" else target.labels
    names = list(dict.fromkeys(share.group for share in shares))
    rows = list(dict.fromkeys((share.row.method, share.row.shot) for share in shares))[:MOST]
    kept = sorted(
        (share for share in shares if (share.row.method, share.row.shot) in rows),
        key=lambda share: (names.index(share.group), rows.index((share.row.method, share.row.shot))),
    )
    if not kept:
        return None
    with themed():
        ladder, places = _lay_out(kept, target.size_edges if by == "sizes" else ())
        for share, place in places:
            whisker(ladder.axes, ladder.heights[place], share.dice, looks[share.row.method])
    label = f"Lesion Dice by {'lesion size' if by == 'sizes' else 'kind of lesion'} on {target.target}"
    return Drawing(by, target.target, label, ladder.page.figure)


def _lay_out(shares: Sequence[Share], edges: Sequence[float]) -> tuple[Ladder, list[tuple[Share, int]]]:
    rungs: list[Rung] = []
    places: list[tuple[Share, int]] = []
    for number, (group, own) in enumerate(groupby(shares, key=lambda share: share.group)):
        members = list(own)
        rungs.append(Rung(f"{group}{_between(number, edges)}", f"n = {members[0].n_images}", heading=True))
        for share in members:
            places.append((share, len(rungs)))
            rungs.append(Rung(f"{share.row.method} · {share.row.shot}", f"{share.dice.estimate:.3f}"))
    key = "after each name: annotated images"
    limits = around(bound for one in shares for bound in (one.dice.low, one.dice.estimate, one.dice.high))
    return lay_out(rungs, "lesion Dice", limits, key=key, note_key="Dice", names=1.95), places


def _between(place: int, edges: Sequence[float]) -> str:
    """What share of the image a lesion of this tercile covers.

    >>> [_between(place, (0.02, 0.06)) for place in range(3)]
    [': below 2.0 % of the image', ': 2.0 to 6.0 % of the image', ': above 6.0 % of the image']
    """
    if not 0 <= place <= len(edges) or not edges:
        return ""
    if place == 0:
        return f": below {edges[0]:.1%} of the image".replace("%", " %")
    if place == len(edges):
        return f": above {edges[-1]:.1%} of the image".replace("%", " %")
    return f": {100 * edges[place - 1]:.1f} to {100 * edges[place]:.1f} % of the image"
