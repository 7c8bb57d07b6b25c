"""What an interval is, and how resamples become one, or a p-value."""

from dataclasses import dataclass
from math import inf, nan

import numpy as np

from episodes.bootstrap import FloatArray

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds of its interval; NaN where there is nothing to estimate or resample."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference between two methods, its interval, and how easily no difference would show it.

    Attributes:
        interval: mean of first minus second, and its interval.
        p_value: two-sided; NaN where there is nothing to resample.
    """

    interval: Interval
    p_value: float


def percentile_interval(estimate: float, resamples: FloatArray, level: float, bounds: Bounds | None = None) -> Interval:
    """The interval that leaves out the same share of resamples on either side.

    Args:
        estimate: of the score.
        resamples: its value on each resample, (n,); none where there is nothing to resample.
        level: share of the resamples inside.
        bounds: to which the interval is clipped; unlimited without.

    Raises:
        ValueError: if the level or the bounds are impossible.

    >>> percentile_interval(50.0, np.arange(101.0), 0.9, bounds=(10, 200))
    Interval(estimate=50.0, low=10.0, high=95.0)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    least, most = bounds or (-inf, inf)
    if not least < most:
        raise ValueError(f"bounds must be a lower and a higher value, not {bounds}")
    if not resamples.size:
        return Interval(estimate, nan, nan)
    low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2]).clip(least, most)
    return Interval(estimate, float(low), float(high))


def p_value(resamples: FloatArray) -> float:
    """How easily no difference would show resamples so far on one side of zero, two-sided; NaN without any.

    >>> round(p_value(np.linspace(-1, 9, 999)), 2)
    0.2
    """
    if not resamples.size:
        return nan
    far_side = min(np.count_nonzero(resamples <= 0), np.count_nonzero(resamples >= 0))
    return float(min(1.0, 2 * (far_side + 1) / (resamples.size + 1)))
