"""P-values of many comparisons made at once."""

from collections.abc import Sequence
from math import isnan, nan


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false finding among them stays below the level (Holm 1979).

    Step-down: the smallest of m is multiplied by m, the next by m - 1, and so on; none falls below one before it and
    none exceeds 1. It asks nothing of how the comparisons depend on each other, so that one reference method may be
    in all of them (Scandinavian Journal of Statistics 6(2), 65-70).

    Args:
        p_values: of one family of comparisons; NaN where one could not be tested, which does not count among them.

    Returns:
        The adjusted p-values in the order given, NaN where there was NaN.

    Raises:
        ValueError: if a p-value does not lie between 0 and 1.

    >>> holm([0.02, 0.01, 0.5])
    [0.04, 0.03, 0.5]
    """
    if impossible := [value for value in p_values if value < 0 or value > 1]:
        raise ValueError(f"p-values must lie between 0 and 1, not {impossible[0]}")
    adjusted = [nan] * len(p_values)
    tested = sorted((value, place) for place, value in enumerate(p_values) if not isnan(value))
    least = 0.0
    for rank, (value, place) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * value))
        adjusted[place] = least
    return adjusted
