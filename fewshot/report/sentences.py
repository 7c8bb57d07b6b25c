"""The sentences of a report: the answer, what supports it, and what to be careful of."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isnan
from statistics import fmean

from episodes.scoring.statistics import Difference, Interval
from fewshot.report.content import Answer, Control, ReportContent, TargetContent
from fewshot.results.index import ResultsIndex
from fewshot.results.summary import Controlled, Results, Row, compare, indexed, usable_role
from fewshot.results.tables import number


def with_images(count: int) -> str:
    """At the beginning of a sentence.

    >>> with_images(0), with_images(1), with_images(5)
    ('Without any annotated image', 'With 1 annotated image', 'With 5 annotated images')
    """
    return f"With {count} annotated image{'s' if count > 1 else ''}" if count else "Without any annotated image"


def rounded(value: float) -> str:
    """Two decimals, and no minus in front of a zero.

    >>> rounded(0.126), rounded(-0.001)
    ('0.13', '0.00')
    """
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def bounds(interval: Interval) -> str:
    """What follows an estimate: its interval; nothing where there is none.

    >>> bounds(Interval(0.7, 0.661, 0.749))
    ' [0.66, 0.75]'
    """
    return "" if isnan(interval.low) else f" [{rounded(interval.low)}, {rounded(interval.high)}]"


def p_text(p: float) -> str:
    """A p-value as people write it.

    >>> p_text(0.0321), p_text(0.0004), p_text(float("nan"))
    ('0.032', '<0.001', 'unknown')
    """
    return "unknown" if isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def is_clear(difference: Difference) -> bool | None:
    """Whether a difference's interval leaves zero out; None where there is no interval."""
    interval = difference.interval
    return None if isnan(interval.low) else interval.low > 0 or interval.high < 0


def below(lead: Difference) -> str:
    """How far the second of two compared methods is below the first, and whether that may be chance.

    >>> below(Difference(Interval(0.131, 0.09, 0.16), 0.001))
    '0.13 lower [0.09, 0.16]: a clear difference'
    >>> below(Difference(Interval(-0.02, -0.05, 0.01), 0.2))
    '0.02 higher [-0.01, 0.05]: this may be chance'
    >>> below(Difference(Interval(0.002, -0.01, 0.02), 0.7))
    'just as good [-0.01, 0.02]'
    """
    if rounded(lead.interval.estimate) == "0.00" and is_clear(lead) is False:
        return f"just as good{_bounds(lead)}"
    word, shown = "lower", lead
    if lead.interval.estimate < 0:
        estimate, low, high = lead.interval.estimate, lead.interval.low, lead.interval.high
        word, shown = "higher", Difference(Interval(-estimate, -high, -low), lead.p_value)
    verdict = {True: "a clear difference", False: "this may be chance", None: "whether by chance cannot be told"}
    return f"{rounded(shown.interval.estimate)} {word}{_bounds(shown)}: {verdict[is_clear(lead)]}"


def brought(gain: Difference) -> str:
    """What something brings in lesion Dice, and whether that may be chance.

    >>> brought(Difference(Interval(0.02, -0.01, 0.06), 0.2))
    '0.02 [-0.01, 0.06], which may be chance'
    >>> brought(Difference(Interval(0.02, 0.003, 0.06), 0.03))
    '0.02 [0.003, 0.060], a clear gain'
    """
    clear = "a clear loss" if gain.interval.high < 0 else "a clear gain"
    verdict = {True: clear, False: "which may be chance", None: "and whether by chance cannot be told"}
    return f"{rounded(gain.interval.estimate)}{_bounds(gain)}, {verdict[is_clear(gain)]}"


def _bounds(difference: Difference) -> str:
    """The bounds; with three decimals where two would show a zero in an interval that leaves zero out."""
    interval = difference.interval
    if is_clear(difference) and "0.00" in (rounded(interval.low), rounded(interval.high)):
        return f" [{interval.low:.3f}, {interval.high:.3f}]"
    return bounds(interval)


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

    >>> from episodes.scoring.statistics import Difference, Interval
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


FEWEST_SEEDS = 3
FEWEST_DRAWS = 5
FEWEST_PATIENTS = 10
MOST_MARKED_NORMALS = 0.5


def warnings_of(content: ReportContent, n_draws: int) -> list[str]:
    """The warnings about a report, a sentence each.

    Args:
        content: all that it says.
        n_draws: support draws, the fewest of any row; 0 where there are none, or episodes draw anew.
    """
    return [*_about_the_run(content, n_draws), *(line for part in content.targets for line in _about(part))]


def _about_the_run(content: ReportContent, n_draws: int) -> Iterator[str]:
    trained = [len(row.seed_means) for row in content.rows if row.trained_on is not None]
    if trained and min(trained) < FEWEST_SEEDS:
        times = "once" if min(trained) == 1 else "twice"
        yield (
            f"Models were trained {times} only: how much another training would change the numbers is not known"
            f" from fewer than {FEWEST_SEEDS} training seeds."
        )
    if 0 < n_draws < FEWEST_DRAWS:
        draws = "One draw" if n_draws == 1 else f"{n_draws} draws"
        yield (
            f"{draws} of support images only: that shows poorly how much depends on which images are annotated;"
            f" take {FEWEST_DRAWS} draws or more."
        )


def _about(part: TargetContent) -> Iterator[str]:
    n_patients = max(map(len, part.patients.values()), default=0)
    if n_patients < FEWEST_PATIENTS:
        yield f"{part.target} has lesion images of {_patients(n_patients)} only: its intervals are rough."
    yield from _about_controls(part)
    if part.answers:
        yield from _about_floors(part, part.answers[-1])
        yield from _about_the_answer(part.target, part.answers[-1])


def _about_controls(part: TargetContent) -> Iterator[str]:
    for control in part.controls:
        if uses_support(control.controlled) is False:
            yield f"On {part.target}: {control.sentence}"


def _about_floors(part: TargetContent, answer: Answer) -> Iterator[str]:
    floors = [row for row in part.rows if row.role == "floor" and row.dice.estimate >= answer.best.dice.estimate]
    if floors and answer.best.role != "floor":
        floor, best = max(floors, key=lambda row: row.dice.estimate), answer.best
        yield (
            f"On {part.target}, no method is any good: {floor.method}, which does not look at the image, has"
            f" {rounded(floor.dice.estimate)} lesion Dice, and {best.method} {rounded(best.dice.estimate)}."
        )


def _about_the_answer(target: str, answer: Answer) -> Iterator[str]:
    best = answer.best
    marked = best.scores["false_positive"]
    if marked > MOST_MARKED_NORMALS:
        yield f"On {target}, {best.method} marks a lesion on {marked:.0%} of the images without one."
    if answer.shot and not best.shot:
        yield f"On {target}, no method gains anything from annotated images over {best.method} without any."
    elif answer.gain is not None and answer.without is not None and not is_clear(answer.gain):
        yield (
            f"On {target}, it may be chance that {best.method} is better with annotated images than"
            f" {answer.without.method} without any."
        )


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count or 'no'} patients"


def how_sure(answer: Answer) -> str:
    """Whether the best is clearly better than its rival, in one plain sentence.

    A lead is clear where its interval, over other patients and other annotated images, leaves zero out.
    """
    if answer.rival is None or answer.lead is None:
        return "No other method was tried."
    lead, rival = answer.lead.interval, answer.rival.method
    if rival == answer.best.method:
        rival = f"{rival} with {'the image' if answer.rival.shot == 1 else 'the images'}"
    if math.isnan(lead.low):
        return f"Next is {rival}; how sure that is cannot be told from so few images."
    if lead.low > 0:
        return f"Clearly better than {rival} (by {number(lead.estimate, 2)})."
    if number(lead.estimate, 2) == "0.00":
        return f"{rival} is just as good."
    return f"{rival} is nearly as good: the difference ({number(lead.estimate, 2)}) may be chance."


def what_annotating_brings(answer: Answer) -> str:
    """Whether the annotated images are worth their annotation, in one plain sentence; nothing where there are none."""
    if answer.shot == 0:
        return ""
    if answer.best.shot == 0:
        return "Annotating brings nothing here: no method that reads annotated images did better."
    if answer.without is None or answer.gain is None:
        return ""
    gain, images = answer.gain.interval, "the image" if answer.best.shot == 1 else "the images"
    if gain.low > 0:
        more = number(gain.estimate, 2, sign=True)
        return f"Annotating {images} brings {more} over {answer.without.method} without any."
    if answer.rival is answer.without:
        return f"So {answer.without.method} without any annotated image may do as well."
    return f"Whether annotating {images} helps at all is unclear: {answer.without.method} without any may do as well."
