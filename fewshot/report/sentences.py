"""The sentences of a report: the headline, an answer for each number of images, cards, controls, counts.

Whatever a sentence says of two rows follows from the verdict on their paired difference (`verdict_on`), which is taken
on the lesion images that both have, with the p-value corrected for how many rows were compared:

===========  ==========================================================  ============================================
verdict      condition                                                   what a sentence may say
===========  ==========================================================  ============================================
`higher`     the interval lies above 0, corrected p below `CLEAR`        clearly better, a clear gain, uses them
`lower`      the interval lies below 0, corrected p below `CLEAR`        clearly worse, a clear loss, brings nothing
`alike`      neither, and the interval lies within `EQUIVALENT` of 0     just as good, brings nothing, does not use them
`unclear`    none of these                                               may be chance, may be as good, cannot be told
`unknown`    no p-value: fewer than `FEW_PATIENTS`, or no common image   cannot be told
===========  ==========================================================  ============================================

A floor that is not clearly beaten is named, and so is a gain that wrong masks give as well. A clear difference whose
interval lies within `EQUIVALENT` of 0 is called small. Of several methods that read annotated images, "nothing" is said
only where it holds for each. What is said of a report as a whole is in `cautions`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isnan
from statistics import fmean

from episodes.scoring.statistics import Interval
from fewshot.report.content import Answer, TargetContent
from fewshot.results.comparison import EQUIVALENT, Comparison, Verdict, is_small, verdict_on
from fewshot.results.numbers import PROSE, annotated_images, p_value_text
from fewshot.results.summary import MethodResult

UNKNOWN = "cannot be told from so few patients"
NOTHING_IN_COMMON = "they have no lesion image in common"


def headline(by_target: Sequence[Sequence[Answer]]) -> str:
    """Return the first sentence of a report: the answer at the largest number of annotated images, over all targets.

    For several targets it is the method with the highest mean over them, each target counting once, and on how many of
    them it is the best, beyond chance or not.
    """
    last = [answers[-1] for answers in by_target if answers]
    if not last:
        return "Nothing could be scored: there is no image with a lesion among the queries."
    if len(last) == 1:
        (answer,) = last
        more = _next_best(answer) or _without_images(answer)
        return _join(_verdict(answer), describe_floor(answer), more, describe_basis(answer))
    means = _means_over_targets(last)
    if not means:
        return " ".join(_verdict(answer) for answer in last)
    method, mean = max(means.items(), key=lambda item: item[1])
    first = [answer for answer in last if answer.best.method == method]
    clear = sum(beats_all(answer) for answer in first)
    leads = "It leads on " + ("all" if len(first) == len(last) else str(len(first) or "none")) + " of them"
    if first:
        where = " there" if clear == len(first) else f" on {clear}"
        leads += f", {'' if clear else 'nowhere '}clearly ahead of every other method{where if clear else ''}"
    if {row.method for answer in last for row, _ in answer.ranked} == {method}:
        leads = "No other method was tried"
    average = f"has the highest lesion Dice on average over {len(last)} datasets, {PROSE.number(mean)}"
    return f"{_with_at_hand(method, last)} {average}. {leads}."


def _join(*clauses: str) -> str:
    return " ".join(clause for clause in clauses if clause)


def _means_over_targets(last: Sequence[Answer]) -> dict[str, float]:
    """Average Dice over targets for the methods that all of them have, each with its best row there."""
    best: dict[str, list[float]] = {}
    for answer in last:
        for row in _best_of_each_method(answer):
            best.setdefault(row.method, []).append(answer.mean(row))
    return {method: fmean(found) for method, found in best.items() if len(found) == len(last)}


def _best_of_each_method(answer: Answer) -> list[MethodResult]:
    return list({row.method: row for row, _ in reversed(answer.ranked)}.values())


def _with_at_hand(method: str, last: Sequence[Answer]) -> str:
    """Begin a sentence about the best rows of one method with how many annotated images there are, and are used."""
    shot = max(answer.shot for answer in last)
    used = {row.shot for answer in last for row in _best_of_each_method(answer) if row.method == method}
    if used == {shot}:
        return f"{_with_images(shot)}, {method}"
    if max(used) == 0:
        return f"{_with_images(shot)} at hand, {method}, which uses none of them,"
    numbers = " or ".join(str(number or "none") for number in sorted(used))
    return f"{_with_images(shot)} at hand, {method}, which uses {numbers} of them,"


def beats_all(answer: Answer) -> bool:
    """Return whether there are other methods to use, and the best is clearly better than each of them."""
    usable = {row.key for row, _ in answer.ranked if row.method != answer.best.method}
    return bool(usable) and all(one.verdict == "lower" for one in answer.others if one.row.key in usable)


def describe_answer(answer: Answer) -> str:
    """Return what to use, how good it is, what comes next, and what annotating gains, in words without statistics."""
    more = _next_best(answer), _without_images(answer), describe_basis(answer)
    return _join(_verdict(answer), describe_floor(answer), *more)


def _verdict(answer: Answer) -> str:
    """Return the first clause of an answer: what to use, and how good it is."""
    best, shot = answer.best, answer.shot
    dice = f"{PROSE.number(answer.dice.estimate)} lesion Dice {PROSE.bounds(answer.dice)}".rstrip()
    if best.shot or not shot:
        only = f", using only {best.shot} of them" if best.shot < shot else ""
        return f"{_with_images(shot)}, {best.method} gives {dice} on {best.target}{only}."
    yours = "your annotated image" if shot == 1 else f"your {shot} annotated images"
    brings = "brings" if shot == 1 else "bring"
    if not answer.with_images:
        return f"On {best.target}, no method that uses {yours} was scored. {best.method} gives {dice} without any."
    if brings_nothing(answer):
        use = f"use {best.method} as it is. It gives {dice} without any"
        if answer.no_better_than_a_floor:
            use = f"{best.method}, the best, gives {dice} without any"
        return f"On {best.target}, {yours} {brings} nothing measurable: {use}."
    return (
        f"On {best.target}, whether {yours} {brings} anything cannot be told. The highest is {best.method} as it is:"
        f" it gives {dice} without any."
    )


def brings_nothing(answer: Answer) -> bool:
    """Return whether the whole interval of every method that reads annotated images ends below a gain of `EQUIVALENT`.

    It is said of answers whose best row needs no image. An interval that is not known shows nothing.
    """
    return all(one.verdict != "unknown" and one.interval.high <= EQUIVALENT for one in answer.with_images)


def describe_floor(answer: Answer, start: str = "But") -> str:
    """Return which floor the best is not clearly better than; nothing where it beats them all."""
    beside = answer.floor
    if beside is None:
        return ""
    floor = f"{beside.other.method}, which does not look at the image,"
    return f"{start} {floor} {describe_difference(beside.interval, beside.corrected_p)}."


def _next_best(answer: Answer) -> str:
    lead = answer.lead
    if lead is None:
        return ""
    name = f"The next best method, {_named(lead.other, answer.shot)},"
    if answer.shot and not answer.best.shot:
        images = "it" if answer.shot == 1 else "them"
        name = f"The best that uses {images}, {lead.other.method},"
        if lead.other.method == answer.best.method:
            name = f"With {images}, {answer.best.method}"
    return f"{name} {describe_difference(lead.interval, lead.corrected_p)}."


def _named(row: MethodResult, shot: int) -> str:
    """Name a row where so many images are spoken of."""
    return row.method if row.shot == shot else f"{row.method} with {annotated_images(row.shot)}"


def _without_images(answer: Answer) -> str:
    gain = answer.gain
    if gain is None:
        return ""
    used = answer.best.shot
    bring = "the image brings" if used == 1 else f"the {used} images bring"
    given = f"{gain.other.method} gives {PROSE.number(answer.mean(gain.other))}"
    known = describe_gain(gain.interval, gain.corrected_p)
    return _join(f"Without any annotated image, {given}; {bring} {known}.", _not_by_masks(answer, "that gain"))


def _not_by_masks(answer: Answer, gain: str) -> str:
    """Return that a clear gain does not come from the masks, where the best has it with wrong ones as well."""
    wrong = [str(one.other.control) for one in answer.controls if one.verdict in ("alike", "lower")]
    if not wrong or answer.gain is None or answer.gain.verdict != "higher":
        return ""
    return f"But {answer.best.method} does as well with masks {' or '.join(wrong)}: {gain} does not come from them."


def describe_basis(answer: Answer) -> str:
    """Return which lesion images an answer is of, where they are not all that its rows have."""
    most = max(row.n_lesion for row, _ in answer.ranked)
    if answer.n_lesion == most:
        return ""
    return f"This is on the {answer.n_lesion} of {most} lesion images that all of these rows have."


def _with_images(count: int) -> str:
    """Begin a sentence with the number of annotated images.

    >>> _with_images(0), _with_images(1), _with_images(5)
    ('Without any annotated image', 'With 1 annotated image', 'With 5 annotated images')
    """
    return f"With {annotated_images(count)}" if count else "Without any annotated image"


def describe_difference(lead: Interval, corrected_p: float) -> str:
    """Return how the second of two rows is beside the first, whose lead over it this is.

    >>> describe_difference(Interval(0.131, 0.09, 0.16), 0.001)
    'is 0.13 lower [0.09, 0.16]: a clear difference'
    >>> describe_difference(Interval(0.03, 0.01, 0.05), 0.2)
    'is 0.03 lower [0.01, 0.05], p = 0.200 after correction: this may be chance'
    >>> describe_difference(Interval(-0.02, -0.05, 0.01), 0.2)
    'is 0.02 higher [-0.01, 0.05]: this may be chance'
    >>> describe_difference(Interval(0.002, -0.01, 0.02), 0.7), describe_difference(Interval(0.002, -0.03, 0.04), 0.9)
    ('is just as good, within 0.02 [-0.01, 0.02]', 'may be as good [-0.03, 0.04]')
    >>> describe_difference(Interval(0.004, 0.003, 0.005), 0.001)
    'is 0.004 lower [0.003, 0.005]: a clear but small difference'
    """
    if isnan(lead.estimate):
        return f"cannot be compared: {NOTHING_IN_COMMON}"
    verdict, (by, bounds) = verdict_on(lead, corrected_p), _figures(lead, corrected_p)
    if verdict == "alike":
        return f"is just as good, within {EQUIVALENT}{bounds}"
    if verdict == "unclear" and PROSE.number(lead.estimate) == "0.00":
        return f"may be as good{bounds}"
    word = "lower"
    if lead.estimate < 0:
        word, lead = "higher", -lead
        by, bounds = _figures(lead, corrected_p)
    clear = f"a clear{' but small' if is_small(lead) else ''} difference"
    verdicts = dict.fromkeys(("higher", "lower"), clear) | {"unclear": "this may be chance"}
    said = verdicts.get(verdict, f"whether by chance {UNKNOWN}")
    return f"is {by} {word}{bounds}: {said}"


def describe_gain(gain: Interval, corrected_p: float) -> str:
    """Return what annotated images gain in lesion Dice, and whether that may be chance.

    >>> describe_gain(Interval(0.02, -0.01, 0.06), 0.2)
    '0.02 [-0.01, 0.06], which may be chance'
    >>> describe_gain(Interval(0.02, 0.003, 0.06), 0.03)
    '0.020 [0.003, 0.060], a clear gain'
    >>> describe_gain(Interval(0.025, 0.01, 0.043), 0.109)
    '0.03 [0.01, 0.04], p = 0.109 after correction, which may be chance'
    >>> describe_gain(Interval(0.0, -0.01, 0.01), 0.9)
    '0.00 [-0.01, 0.01], nothing above 0.02'
    """
    if isnan(gain.estimate):
        return f"what cannot be told: {NOTHING_IN_COMMON}"
    small = " but small" if is_small(gain) else ""
    verdicts: Mapping[Verdict, str] = {
        "higher": f"a clear{small} gain",
        "lower": f"a clear{small} loss",
        "alike": f"nothing above {EQUIVALENT}",
        "unclear": "which may be chance",
        "unknown": f"and whether by chance {UNKNOWN}",
    }
    return f"{''.join(_figures(gain, corrected_p))}, {verdicts[verdict_on(gain, corrected_p)]}"


def _figures(interval: Interval, corrected_p: float) -> tuple[str, str]:
    """Return a difference, and its bounds; with the p-value where they leave zero out, but it is not clear.

    They have three decimals where two would show a zero in an interval that leaves zero out.
    """
    beyond_zero = interval.low > 0 or interval.high < 0
    digits = 3 if beyond_zero and "0.00" in PROSE.interval(interval) else PROSE.digits
    unclear = beyond_zero and verdict_on(interval, corrected_p) in ("alike", "unclear")
    p = f", p = {p_value_text(corrected_p)} after correction" if unclear else ""
    return PROSE.number(interval.estimate, digits), f" {PROSE.bounds(interval, digits)}{p}".rstrip()


def describe_control(one: Comparison) -> str:
    """Return whether a method uses its support set, in one sentence made from how it is beside its control.

    Such as "With 5 annotated images, PANet falls by 0.12 [0.08, 0.16] when its supports' masks are swapped: it uses
    them."
    """
    loss, small = one.interval, is_small(one.interval)
    case, method = _with_images(one.row.shot), one.row.method
    gains = loss.estimate < 0
    change = "".join(_figures(-loss if gains else loss, one.corrected_p))
    change += f" when its supports' masks are {one.other.control}"
    verdicts: Mapping[Verdict, str] = {
        "higher": f"{method} falls by {change}: it uses them{', but little' if small else ''}",
        "lower": f"{method} rises by {change}: the right masks do it {'a little ' if small else ''}harm",
        "alike": f"{method} does not use its support set: it {'gains' if gains else 'loses'} {change}",
        "unclear": f"whether {method} uses its support set cannot be told: it {'gains' if gains else 'loses'} {change}",
        "unknown": f"whether {method} uses its support set {UNKNOWN}",
    }
    return f"{case}, {verdicts[one.verdict]}."


def describe_lead(answer: Answer) -> str:
    """Return how sure it is that the best is better than its rival, in one plain sentence."""
    lead = answer.lead
    if lead is None:
        if any(row.method != answer.best.method for row in answer.left_out):
            return "The other methods have no lesion image in common with it."
        if answer.shot:
            return "No other method that reads annotated images was tried with so few." if answer.best.shot else ""
        return "No other method was tried without annotated images."
    rival, by = _named(lead.other, answer.shot), _figures(lead.interval, lead.corrected_p)[0]
    if lead.other.method == answer.best.method:
        rival = f"{lead.other.method} with {'the image' if lead.other.shot == 1 else 'the images'}"
    small = ", a small difference" if is_small(lead.interval) else ""
    verdicts: Mapping[Verdict, str] = {
        "higher": f"Clearly better than {rival} (by {by}{small}).",
        "lower": f"Clearly worse than {rival} (by {by}{small}).",
        "alike": f"{rival} is just as good.",
        "unclear": f"{rival} may be as good: the difference ({by}) may be chance.",
        "unknown": f"Next is {rival}; how sure that is {UNKNOWN}.",
    }
    return verdicts[lead.verdict]


def describe_value_of_annotating(answer: Answer) -> str:
    """Return whether the images are worth their annotation, in one plain sentence; nothing where there are none."""
    if answer.shot == 0:
        return ""
    if answer.best.shot == 0:
        if not answer.with_images:
            return "No method that reads annotated images was scored."
        if brings_nothing(answer):
            return "Annotating brings nothing here: no method that reads annotated images did better."
        return "Whether annotating helps cannot be told: no method that reads annotated images did better, but may be."
    gain = answer.gain
    if gain is None:
        return ""
    images = "the image" if answer.best.shot == 1 else "the images"
    by, without = _figures(gain.interval, gain.corrected_p)[0], f"{gain.other.method} without any"
    verdicts: Mapping[Verdict, str] = {
        "higher": f"Annotating {images} brings +{by} over {without}.",
        "lower": f"Annotating {images} does harm: {by} beside {without}.",
        "alike": f"Annotating {images} brings nothing measurable: {without} is just as good.",
        "unclear": f"Whether annotating {images} helps at all is unclear: {without} may do as well.",
        "unknown": f"Whether annotating {images} helps {UNKNOWN}.",
    }
    return _not_by_masks(answer, f"the gain of {by} over {without}") or verdicts[gain.verdict]


def describe_counts(part: TargetContent) -> str:
    """Return how many methods are clearly below the best of a dataset, for each number of annotated images."""
    if not part.answers:
        return ""
    best = part.answers[-1].best
    methods = [one for one in part.comparisons if one.row.role == best.role]
    total = Counter(one.row.shot for one in methods)
    below = Counter(one.row.shot for one in methods if one.verdict == "lower")
    counts = [f"{below[shot]} of {total[shot]} with {annotated_images(shot)}" for shot in sorted(total)]
    if not counts:
        return ""
    return f"Clearly below {best.method} with {annotated_images(best.shot)}: {', '.join(counts)}."
