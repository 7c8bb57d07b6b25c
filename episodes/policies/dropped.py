"""What a policy leaves of a dataset, and what it does not and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from episodes.records import Record


@dataclass(frozen=True, slots=True)
class Dropped:
    """An image that is not used.

    Attributes:
        id: the record's.
        reason: what it has in common with others that are dropped for it, such as `near-duplicate of an image kept`.
        detail: what is to be said of this one beyond that, such as the other's id; may be empty.
    """

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Curated:
    """What is left of a dataset.

    Attributes:
        records: those kept, in the order given.
        dropped: the others, in the order in which they were dropped.
    """

    records: tuple[Record, ...]
    dropped: tuple[Dropped, ...] = ()


def count_by_reason(dropped: Sequence[Dropped]) -> dict[str, int]:
    """How many images each reason cost, in the order of the reasons' first.

    >>> count_by_reason([Dropped("a", "Doppler"), Dropped("b", "Doppler")])
    {'Doppler': 2}
    """
    return dict(Counter(one.reason for one in dropped))
