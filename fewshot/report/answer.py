"""What to use with so many annotated images, in words that need no statistics."""

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from statistics import fmean

from fewshot.report.content import Answer
from fewshot.report.phrases import below, bounds, brought, rounded, with_images
from fewshot.results.index import ResultsIndex
from fewshot.results.summary import Row, compare, usable_role


def answers(table: ResultsIndex, rows: Sequence[Row]) -> list[Answer]:
    """What to use on one target at each number of annotated images that was measured, rising.

    Args:
        table: per-query results.
        rows: those of the target.

    Returns:
        None for a number of images at which nothing could be scored.
    """
    shots = sorted({row.shot for row in rows})
    return [found for shot in shots if (found := _answer(table, rows, shot)) is not None]


def candidates(rows: Sequence[Row], shot: int) -> list[Row]:
    """Rows that can be used with so many annotated images, best first; of equals the one that needs fewest.

    Controls and oracles are never for use, and floors only where there is nothing else.
    """
    wanted = usable_role(rows)
    usable = [row for row in rows if row.role == wanted and row.shot <= shot and not isnan(row.dice.estimate)]
    return sorted(usable, key=lambda row: (-row.dice.estimate, row.shot, row.method))


def _answer(table: ResultsIndex, rows: Sequence[Row], shot: int) -> Answer | None:
    usable = candidates(rows, shot)
    if not usable:
        return None
    best = usable[0]
    rival = _rival(usable, shot)
    without = next((row for row in usable if row.shot == 0), None) if best.shot else None
    lead = None if rival is None else compare(table, best, rival)
    gain = None if without is None else compare(table, best, without)
    answer = Answer(shot, best, rival, lead, without, gain, "")
    return replace(answer, sentence=" ".join(_sentences(answer)))


def _rival(usable: Sequence[Row], shot: int) -> Row | None:
    """The best row of another method than the first one's.

    With annotated images at hand it is one that uses them, since what does without them is a question of its own: is
    annotating worth it? Where the answer to that is no, it is the best of those that use them, of whatever method.
    """
    best = usable[0]
    for row in usable[1:]:
        if (row.shot > 0) == (shot > 0) and (row.method != best.method or row.shot > best.shot == 0):
            return row
    return None


def _sentences(answer: Answer) -> list[str]:
    return [text for text in (verdict(answer), _next_best(answer), _without(answer)) if text]


def verdict(answer: Answer) -> str:
    """The first clauses of an answer: what to use, and how good it is."""
    best, shot = answer.best, answer.shot
    dice = f"{rounded(best.dice.estimate)} lesion Dice{bounds(best.dice)}"
    if best.shot == shot:
        return f"{with_images(shot)}, {best.method} gives {dice} on {best.target}."
    if best.shot:
        return f"{with_images(shot)}, {best.method} gives {dice} on {best.target}, and needs only {best.shot} of them."
    yours = "your annotated image brings" if shot == 1 else f"your {shot} annotated images bring"
    return f"On {best.target}, {yours} nothing measurable: use {best.method} as it is. It gives {dice} without any."


def _next_best(answer: Answer) -> str:
    if answer.rival is None or answer.lead is None:
        return ""
    name = f"The next best method, {answer.rival.method},"
    if answer.shot and not answer.best.shot:
        images = "it" if answer.shot == 1 else "them"
        name = f"The best that uses {images}, {answer.rival.method},"
        if answer.rival.method == answer.best.method:
            name = f"With {images}, {answer.best.method}"
    return f"{name} is {below(answer.lead)}."


def _without(answer: Answer) -> str:
    if answer.without is None or answer.gain is None:
        return ""
    used = answer.best.shot
    bring = "the image brings" if used == 1 else f"the {used} images bring"
    given = f"{answer.without.method} gives {rounded(answer.without.dice.estimate)}"
    return f"Without any annotated image, {given}; {bring} {brought(answer.gain)}."


def headline(by_target: Sequence[Sequence[Answer]], rows: Sequence[Row]) -> str:
    """The answer at the largest number of annotated images, over all targets.

    For several targets it is the method with the highest mean over them, each target counting once, and on how many of
    them it is the best.

    Args:
        by_target: the answers for each target.
        rows: of all targets.
    """
    last = [answers[-1] for answers in by_target if answers]
    if not last:
        return "Nothing could be scored: there is no image with a lesion among the queries."
    if len(last) == 1:
        return " ".join(_sentences(last[0])[:2])
    shot, targets = max(answer.shot for answer in last), {answer.best.target for answer in last}
    means = _means_over_targets(candidates(rows, shot), targets)
    if not means:
        return " ".join(verdict(answer) for answer in last)
    method, mean = max(means.items(), key=lambda item: item[1])
    wins = sum(answer.best.method == method for answer in last)
    everywhere = "both" if wins == 2 else "all of them"
    where = everywhere if wins == len(targets) else f"{wins} of them" if wins else "none of them"
    best_on = f"{'and' if wins else 'though'} it is the best on {where}"
    average = f"{rounded(mean)} lesion Dice on average over {len(targets)} datasets"
    return f"{with_images(shot)}, {method} is best: {average}, {best_on}."


def _means_over_targets(usable: Sequence[Row], targets: set[str]) -> dict[str, float]:
    """Mean Dice over targets of the methods that all of them have, each with its best row there."""
    best: dict[str, dict[str, float]] = {}
    for row in usable:  # best first
        best.setdefault(row.method, {}).setdefault(row.target, row.dice.estimate)
    return {method: fmean(found.values()) for method, found in best.items() if found.keys() == targets}
