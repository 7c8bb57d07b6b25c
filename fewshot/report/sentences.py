"""The sentences of a report: the headline, an answer for each number of images, controls, and what to be careful of."""

from collections.abc import Iterator, Sequence
from math import isnan
from statistics import fmean

from episodes.scoring.statistics import Difference, Interval
from fewshot.report.content import Answer, Control, ReportContent, TargetContent
from fewshot.results.numbers import PLAIN, PROSE, TYPESET, annotated_images
from fewshot.results.summary import MethodResult, candidates


def headline(by_target: Sequence[Sequence[Answer]], rows: Sequence[MethodResult]) -> str:
    """Return the first sentence of a report: the answer at the largest number of annotated images, over all targets.

    For several targets it is the method with the highest mean over them, each target counting once, and on how many of
    them it is the best.
    """
    last = [answers[-1] for answers in by_target if answers]
    if not last:
        return "Nothing could be scored: there is no image with a lesion among the queries."
    if len(last) == 1:
        return " ".join(_clauses(last[0])[:2])
    shot, targets = max(answer.shot for answer in last), {answer.best.target for answer in last}
    means = _means_over_targets(candidates(rows, shot), targets)
    if not means:
        return " ".join(_verdict(answer) for answer in last)
    method, mean = max(means.items(), key=lambda item: item[1])
    wins = sum(answer.best.method == method for answer in last)
    everywhere = "both" if wins == 2 else "all of them"
    where = everywhere if wins == len(targets) else f"{wins} of them" if wins else "none of them"
    best_on = f"{'and' if wins else 'though'} it is the best on {where}"
    average = f"{PROSE.number(mean)} lesion Dice on average over {len(targets)} datasets"
    return f"{_with_images(shot)}, {method} is best: {average}, {best_on}."


def _means_over_targets(usable: Sequence[MethodResult], targets: set[str]) -> dict[str, float]:
    """Average Dice over targets for the methods that all of them have, each with its best row there."""
    best: dict[str, dict[str, float]] = {}
    for row in usable:  # best first
        best.setdefault(row.method, {}).setdefault(row.target, row.dice.estimate)
    return {method: fmean(found.values()) for method, found in best.items() if found.keys() == targets}


def describe_answer(answer: Answer) -> str:
    """Return what to use, how good it is, what comes next, and what annotating gains, in words without statistics."""
    return " ".join(_clauses(answer))


def _clauses(answer: Answer) -> list[str]:
    return [text for text in (_verdict(answer), _next_best(answer), _without_images(answer)) if text]


def _verdict(answer: Answer) -> str:
    """Return the first clause of an answer: what to use, and how good it is."""
    best, shot = answer.best, answer.shot
    dice = f"{PROSE.number(best.dice.estimate)} lesion Dice {PROSE.bounds(best.dice)}".rstrip()
    if best.shot == shot:
        return f"{_with_images(shot)}, {best.method} gives {dice} on {best.target}."
    if best.shot:
        return f"{_with_images(shot)}, {best.method} gives {dice} on {best.target}, and needs only {best.shot} of them."
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
    return f"{name} is {describe_difference(answer.lead)}."


def _without_images(answer: Answer) -> str:
    if answer.without is None or answer.gain is None:
        return ""
    used = answer.best.shot
    bring = "the image brings" if used == 1 else f"the {used} images bring"
    given = f"{answer.without.method} gives {PROSE.number(answer.without.dice.estimate)}"
    return f"Without any annotated image, {given}; {bring} {describe_gain(answer.gain)}."


def _with_images(count: int) -> str:
    """Begin a sentence with the number of annotated images.

    >>> _with_images(0), _with_images(1), _with_images(5)
    ('Without any annotated image', 'With 1 annotated image', 'With 5 annotated images')
    """
    return f"With {annotated_images(count)}" if count else "Without any annotated image"


def is_clear(difference: Difference) -> bool | None:
    """Return whether a difference's interval leaves zero out; None where there is no interval."""
    interval = difference.interval
    return None if isnan(interval.low) else interval.low > 0 or interval.high < 0


def describe_difference(lead: Difference) -> str:
    """Return how far the second of two compared methods is below the first, and whether that may be chance.

    >>> describe_difference(Difference(Interval(0.131, 0.09, 0.16), 0.001))
    '0.13 lower [0.09, 0.16]: a clear difference'
    >>> describe_difference(Difference(Interval(-0.02, -0.05, 0.01), 0.2))
    '0.02 higher [-0.01, 0.05]: this may be chance'
    >>> describe_difference(Difference(Interval(0.002, -0.01, 0.02), 0.7))
    'just as good [-0.01, 0.02]'
    """
    interval, clear = lead.interval, is_clear(lead)
    if PROSE.number(interval.estimate) == "0.00" and clear is False:
        return f"just as good{_bounds(interval)}"
    word = "lower"
    if interval.estimate < 0:
        word, interval = "higher", Interval(-interval.estimate, -interval.high, -interval.low)
    verdicts = {True: "a clear difference", False: "this may be chance", None: "whether by chance cannot be told"}
    return f"{PROSE.number(interval.estimate)} {word}{_bounds(interval)}: {verdicts[clear]}"


def describe_gain(gain: Difference) -> str:
    """Return what annotated images gain in lesion Dice, and whether that may be chance.

    >>> describe_gain(Difference(Interval(0.02, -0.01, 0.06), 0.2))
    '0.02 [-0.01, 0.06], which may be chance'
    >>> describe_gain(Difference(Interval(0.02, 0.003, 0.06), 0.03))
    '0.02 [0.003, 0.060], a clear gain'
    """
    clear = "a clear loss" if gain.interval.high < 0 else "a clear gain"
    verdicts = {True: clear, False: "which may be chance", None: "and whether by chance cannot be told"}
    return f"{PROSE.number(gain.interval.estimate)}{_bounds(gain.interval)}, {verdicts[is_clear(gain)]}"


def _bounds(interval: Interval) -> str:
    """Return the bounds; with three decimals where two would show a zero in an interval that leaves zero out."""
    shown = PROSE.bounds(interval)
    if "0.00" in shown and (interval.low > 0 or interval.high < 0):
        shown = PLAIN.bounds(interval)
    return f" {shown}".rstrip()


def describe_control(control: Control) -> str:
    """Return whether a method uses its support set, in one sentence made from the numbers.

    >>> loss = Difference(Interval(0.12, 0.08, 0.16), 0.001)
    >>> describe_control(Control("ours", 5, "PANet", "PANet swapped", "swapped", loss))
    "With 5 annotated images, PANet falls by 0.12 [0.08, 0.16] when its supports' masks are swapped: it uses them."
    """
    case, masks = _with_images(control.shot), f"its supports' masks are {control.masks}"
    used, loss = uses_support(control), PROSE.interval(control.difference.interval)
    if used is None:
        return f"{case}, whether {control.method} uses its support set cannot be told from one patient and one draw."
    if used:
        return f"{case}, {control.method} falls by {loss} when {masks}: it uses them."
    return f"{case}, {control.method} does not use its support set: it loses {loss} when {masks}."


def uses_support(control: Control) -> bool | None:
    """Return whether the loss is beyond chance; None where that cannot be told."""
    loss = control.difference.interval
    return None if isnan(loss.low) else loss.low > 0


FEWEST_SEEDS = 3
FEWEST_DRAWS = 5
FEWEST_PATIENTS = 10
MOST_MARKED_NORMALS = 0.5


def warnings_of(content: ReportContent, n_draws: int) -> list[str]:
    """Return the warnings about a report, a sentence each.

    The fewest support draws of any row are `n_draws`, 0 where there are none, or episodes draw anew.
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
    yield from (f"On {part.target}: {one.sentence}" for one in part.controls if uses_support(one) is False)
    if part.answers:
        yield from _about_floors(part, part.answers[-1])
        yield from _about_the_answer(part.target, part.answers[-1])


def _about_floors(part: TargetContent, answer: Answer) -> Iterator[str]:
    floors = [row for row in part.rows if row.role == "floor" and row.dice.estimate >= answer.best.dice.estimate]
    if floors and answer.best.role != "floor":
        floor, best = max(floors, key=lambda row: row.dice.estimate), answer.best
        yield (
            f"On {part.target}, no method is any good: {floor.method}, which does not look at the image, has"
            f" {PROSE.number(floor.dice.estimate)} lesion Dice, and {best.method} {PROSE.number(best.dice.estimate)}."
        )


def _about_the_answer(target: str, answer: Answer) -> Iterator[str]:
    best = answer.best
    marked = best.scores["false_positive"]
    if marked > MOST_MARKED_NORMALS:
        yield f"On {target}, {best.method} marks a lesion on {PLAIN.share(marked)} of the images without one."
    if answer.shot and not best.shot:
        yield f"On {target}, no method gains anything from annotated images over {best.method} without any."
    elif answer.gain is not None and answer.without is not None and not is_clear(answer.gain):
        yield (
            f"On {target}, it may be chance that {best.method} is better with annotated images than"
            f" {answer.without.method} without any."
        )


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count or 'no'} patients"


def describe_lead(answer: Answer) -> str:
    """Return whether the best is clearly better than its rival, in one plain sentence.

    A lead is clear where its interval, over other patients and other annotated images, leaves zero out.
    """
    if answer.rival is None or answer.lead is None:
        return "No other method was tried."
    lead, rival = answer.lead.interval, answer.rival.method
    by = TYPESET.number(lead.estimate, 2)
    if rival == answer.best.method:
        rival = f"{rival} with {'the image' if answer.rival.shot == 1 else 'the images'}"
    if isnan(lead.low):
        return f"Next is {rival}; how sure that is cannot be told from so few images."
    if lead.low > 0:
        return f"Clearly better than {rival} (by {by})."
    if by == "0.00":
        return f"{rival} is just as good."
    return f"{rival} is nearly as good: the difference ({by}) may be chance."


def describe_value_of_annotating(answer: Answer) -> str:
    """Return whether the images are worth their annotation, in one plain sentence; nothing where there are none."""
    if answer.shot == 0:
        return ""
    if answer.best.shot == 0:
        return "Annotating brings nothing here: no method that reads annotated images did better."
    if answer.without is None or answer.gain is None:
        return ""
    gain, images = answer.gain.interval, "the image" if answer.best.shot == 1 else "the images"
    if gain.low > 0:
        more = TYPESET.number(gain.estimate, 2, sign=True)
        return f"Annotating {images} brings {more} over {answer.without.method} without any."
    if answer.rival is answer.without:
        return f"So {answer.without.method} without any annotated image may do as well."
    return f"Whether annotating {images} helps at all is unclear: {answer.without.method} without any may do as well."
