"""How far every row lies behind or before the best, and how sure that is."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from fewshot.report.content import Comparison, TargetContent
from fewshot.report.figures.ladder import Rung, lay_out, whisker
from fewshot.report.figures.series import Look, named
from fewshot.report.figures.theme import INK, Drawing, themed
from fewshot.report.phrases import p_text
from fewshot.report.wording import annotated, number

CLEAR = 0.05
FAR = 0.2


def difference(target: TargetContent, looks: Mapping[str, Look]) -> Drawing:
    """Draw each row's lesion Dice minus that of the best, with its interval and corrected p-value.

    Marks are filled where the difference is clear (corrected p below 0.05), hollow where it may be chance. Rows far
    off are arrows at the edge; their numbers stand at the right.
    """
    best = target.answers[-1].best
    found = sorted(target.comparisons, key=lambda one: one.row.shot)
    rungs, places = _rungs(found)
    with themed():
        ladder = lay_out(
            rungs,
            f"lesion Dice minus {named(best.method, best.shot)}",
            _limits(found),
            key="filled: clear, hollow: may be chance",
            note_key="difference · p",
            notes=1.02,
        )
        ladder.axes.axvline(0, color=INK, linewidth=1)
        for one, place in zip(found, places, strict=True):
            hollow = not one.corrected_p < CLEAR
            whisker(ladder.axes, ladder.heights[place], one.difference.interval, looks[one.row.method], hollow=hollow)
    label = f"Lesion Dice of each row on {target.target} minus that of {best.method}, with intervals"
    return Drawing("difference", target.target, label, ladder.page.figure)


def _rungs(found: Sequence[Comparison]) -> tuple[list[Rung], list[int]]:
    """A heading for each number of annotated images, the rows below it, and where each row ended up."""
    rungs: list[Rung] = []
    places: list[int] = []
    for shot, group in groupby(found, key=lambda one: one.row.shot):
        rungs.append(Rung(f"with {annotated(shot)}", heading=True))
        for one in group:
            places.append(len(rungs))
            note = f"{number(one.difference.interval.estimate, sign=True)} · {p_text(one.corrected_p)}"
            rungs.append(Rung(one.row.method, note))
    return rungs, places


def _limits(found: Sequence[Comparison]) -> tuple[float, float]:
    """Of the axis: zero and all intervals, but no farther than `FAR`: rows close to the best are hard to tell apart."""
    spans = [one.difference.interval for one in found]
    known = [bound for one in spans for bound in (one.estimate, one.low, one.high) if not math.isnan(bound)]
    low, high = max(min([0.0, *known]), -FAR), min(max([0.0, *known]), FAR)
    air = max(0.01, 0.05 * (high - low))
    return low - air, high + air
