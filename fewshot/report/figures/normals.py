"""How often a lesion is seen where there is none."""

import math
from collections.abc import Mapping
from itertools import groupby

from fewshot.report.content import TargetContent
from fewshot.report.figures.ladder import Rung, bar, lay_out
from fewshot.report.figures.series import Look
from fewshot.report.figures.theme import Drawing, themed
from fewshot.report.wording import annotated, percent

TALL = 0.1


def normals(target: TargetContent, looks: Mapping[str, Look]) -> Drawing | None:
    """Draw the share of normal images with a false lesion for every row but floors and controls.

    Returns:
        None where there is no normal image.
    """
    rows = [
        row
        for row in target.rows
        if row.role in ("method", "oracle") and not math.isnan(row.scores.get("false_positive", math.nan))
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: (row.shot, row.scores["false_positive"]))
    rungs: list[Rung] = []
    places: list[int] = []
    for shot, group in groupby(rows, key=lambda row: row.shot):
        rungs.append(Rung(f"with {annotated(shot)}", heading=True))
        for row in group:
            places.append(len(rungs))
            rungs.append(Rung(row.method, percent(row.scores["false_positive"])))
    with themed():
        ladder = lay_out(rungs, f"of {target.n_normal} images without a lesion", (0, 1))
        ladder.axes.xaxis.set_major_formatter(lambda value, _: percent(value))
        for row, place in zip(rows, places, strict=True):
            bar(ladder.axes, ladder.heights[place], row.scores["false_positive"], TALL, looks[row.method])
    label = f"Share of normal images of {target.target} on which each row sees a lesion"
    return Drawing("normals", target.target, label, ladder.page.figure)
