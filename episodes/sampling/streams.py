"""Random streams that are a pure function of (seed, index)."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the step of SplitMix64


Words = TypeVar("Words", int, NDArray[np.uint64])


def mix(value: Words) -> Words:
    """Scramble 64 bits so that neighbouring values become unrelated (the finaliser of SplitMix64).

    >>> hex(mix(1))
    '0x5692161d100b05e5'
    """
    word: Any = value  # for numpy's types a whole number beside uint64 makes int64 of it, which it does not
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    mixed: Words = word ^ (word >> 31)
    return mixed


class Stream:
    """Random numbers of one (seed, index), of which the lowest 64 bits count: SplitMix64 (Steele et al., OOPSLA 2014).

    Written out here, not taken from a library, because episodes must be the same under every version of Python and
    numpy, and because a stream starts in a microsecond: each episode can have its own.

    >>> stream = Stream(seed=0, index=7)
    >>> [stream.below(10) for _ in range(5)]
    [8, 0, 9, 5, 4]
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int, index: int) -> None:
        self._state = mix((mix((seed + GOLDEN) & MASK) + index) & MASK)

    def below(self, limit: int) -> int:
        """Draw a uniform integer in [0, limit); its bias of at most limit / 2^64 is beyond measuring."""
        self._state = (self._state + GOLDEN) & MASK
        return (mix(self._state) * limit) >> 64

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order (Fisher and Yates)."""
        shuffled = list(items)
        for last in range(len(shuffled) - 1, 0, -1):
            chosen = self.below(last + 1)
            shuffled[last], shuffled[chosen] = shuffled[chosen], shuffled[last]
        return shuffled


class Streams:
    """The streams of many indices at once, in arrays: each gives what its own `Stream` gives.

    >>> streams = Streams(seed=0, start=7, count=2)
    >>> [int(streams.below(np.array([10, 10], np.uint64))[0]) for _ in range(5)]
    [8, 0, 9, 5, 4]
    """

    def __init__(self, seed: int, start: int, count: int) -> None:
        indices = np.arange(count, dtype=np.uint64) + np.uint64(start & MASK)
        self._states = mix(indices + np.uint64(mix((seed + GOLDEN) & MASK)))

    def below(self, limits: NDArray[np.uint64], rows: NDArray[np.intp] | slice = slice(None)) -> NDArray[np.intp]:
        """Draw from each of the streams in `rows`, a number below its limit, of at most 32 bits: (n,)."""
        states = self._states[rows] + np.uint64(GOLDEN)
        self._states[rows] = states
        words = mix(states)
        # The upper half of a product of 128 bits, which numpy does not have, from two of 64.
        high, low = (words >> 32) * limits, ((words & 0xFFFFFFFF) * limits) >> 32
        return ((high + low) >> 32).astype(np.intp)
