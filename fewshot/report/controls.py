"""Whether a method uses its support set: its score beside that with masks that say nothing."""

from collections.abc import Sequence
from math import isnan

from fewshot.report.content import Control
from fewshot.report.phrases import bounds, rounded, with_images
from fewshot.results.summary import Controlled, Results, Row, compare, indexed


def controls_of(results: Results, rows: Sequence[Row], target: str) -> list[Control]:
    """Every control of a target and what it says, in the order of the rows."""
    return [Control(found, judge_control(found)) for found in compare_controls(results, rows, target)]


def compare_controls(results: Results, rows: Sequence[Row], target: str) -> list[Controlled]:
    """Every control of a target beside the method that it is a control of, in the order of the rows."""
    index = indexed(results)
    methods = {(row.method, row.shot): row for row in rows if row.target == target}
    pairs = [(row, methods.get((row.control_of or "", row.shot))) for row in methods.values() if row.control]
    return [
        Controlled(target, row.shot, method.method, row.method, row.control or "", compare(index, method, row))
        for row, method in pairs
        if method is not None
    ]


def judge_control(controlled: Controlled) -> str:
    """Whether a method uses its support set, in one sentence made from the numbers.

    >>> from episodes.statistics import Difference, Interval
    >>> loss = Difference(Interval(0.12, 0.08, 0.16), 0.001)
    >>> judge_control(Controlled("ours", 5, "PANet", "PANet swapped", "swapped", loss))
    "With 5 annotated images, PANet falls by 0.12 [0.08, 0.16] when its supports' masks are swapped: it uses them."
    """
    loss, masks = controlled.difference.interval, f"its supports' masks are {controlled.masks}"
    case = with_images(controlled.shot)
    if isnan(loss.low):
        return f"{case}, whether {controlled.method} uses its support set cannot be told from one patient and one draw."
    if loss.low > 0:
        return (
            f"{case}, {controlled.method} falls by {rounded(loss.estimate)}{bounds(loss)} when {masks}: it uses them."
        )
    return (
        f"{case}, {controlled.method} does not use its support set: it loses {rounded(loss.estimate)}{bounds(loss)}"
        f" when {masks}."
    )


def uses_support(controlled: Controlled) -> bool | None:
    """Whether the loss is beyond chance; None where that cannot be told."""
    loss = controlled.difference.interval
    return None if isnan(loss.low) else loss.low > 0
