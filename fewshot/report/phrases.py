"""Differences as they stand in a sentence: two decimals, and words in place of p-values."""

from math import isnan

from episodes.statistics import Difference, Interval


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
