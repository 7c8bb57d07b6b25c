"""Random streams that are a pure function of (seed, index)."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the step of SplitMix64


def mix(value: int) -> int:
    """Scramble 64 bits so that neighbouring values become unrelated (the finaliser of SplitMix64).

    >>> hex(mix(1))
    '0x5692161d100b05e5'
    """
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


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
