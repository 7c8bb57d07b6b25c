"""What methods lose when the masks of their support sets say nothing."""

from collections.abc import Mapping

from fewshot.report.content import TargetContent
from fewshot.report.figures.ladder import Rung, around, lay_out
from fewshot.report.figures.series import Look, images
from fewshot.report.figures.theme import MUTED, PAPER, Drawing, themed
from fewshot.report.wording import number
from fewshot.results.summary import Controlled


def controls(target: TargetContent, looks: Mapping[str, Look]) -> Drawing | None:
    """Draw a method's lesion Dice (filled) and that of its control (hollow), joined by a line.

    Returns:
        None where there is no control.
    """
    if not target.controls:
        return None
    dice = {(row.method, row.shot): row.dice.estimate for row in target.rows}
    found = [one.controlled for one in target.controls]
    ends = [[dice[one.method, one.shot], dice[one.control, one.shot]] for one in found]
    rungs = [Rung(_name(one), number(-one.difference.interval.estimate, sign=True)) for one in found]
    with themed():
        key = "filled: as it is; hollow: with wrong masks"
        limits = around(value for pair in ends for value in pair)
        ladder = lay_out(rungs, "lesion Dice", limits, key=key, above=True)
        for one, pair, y in zip(found, ends, ladder.heights, strict=True):
            look = looks[one.method]
            ladder.axes.plot(pair, [y, y], color=MUTED, linewidth=2.2, zorder=1)
            for x, face in zip(pair, (look.colour, PAPER), strict=True):
                ladder.axes.plot(
                    [x], [y], marker=look.marker, markersize=7, color=look.colour, markerfacecolor=face, clip_on=False
                )
    label = f"Lesion Dice with right and with wrong support masks on {target.target}"
    return Drawing("controls", target.target, label, ladder.page.figure)


def _name(one: Controlled) -> str:
    return f"{one.method} · {images(one.shot)}, masks {one.masks}"
