"""Following a policy as far as the facts of records go: what needs no pixels is settled before any are decoded."""

from collections.abc import Sequence

from episodes.errors import DatasetError
from episodes.policies.corrections import correct
from episodes.policies.curated_list import keep_listed
from episodes.policies.doppler import drop_doppler
from episodes.policies.dropped import Curated, Dropped
from episodes.policies.policy import Policy
from episodes.records import Record


def curate(records: Sequence[Record], policy: Policy) -> Curated:
    """Correct records, and drop those that the curated list or the Doppler policy drops.

    Near-duplicates, which only pixels show, are for `settle_duplicates`. An image that corrections exclude is never
    decoded, so a damaged file can be one.

    Args:
        records: one dataset's, at least one.
        policy: its policy.

    Raises:
        DatasetError: if the policy names an image or patient that the dataset does not have, asks for facts that it
            does not state, or leaves no image.
    """
    left = Curated(tuple(records))
    if policy.corrections is not None:
        left = _then(left, correct(records, policy.corrections))
    if policy.curated is not None:
        left = _then(left, keep_listed(left.records, policy.curated, records))
    if policy.doppler == "drop" and left.records:
        left = _then(left, drop_doppler(left.records))
    require_some(left, records[0].dataset)
    return left


def require_some(left: Curated, dataset: str) -> None:
    """Refuse a policy that leaves nothing.

    Raises:
        DatasetError: if no record is left; it says what the last was dropped for.
    """
    if not left.records:
        last = left.dropped[-1]
        why = f"{last.reason}: {last.detail}" if last.detail else last.reason
        raise DatasetError(f"{dataset}: its curation leaves no image ({why}); change the policy, or what it goes by")


def _then(before: Curated, after: Curated) -> Curated:
    """What is left after two steps."""
    dropped: tuple[Dropped, ...] = (*before.dropped, *after.dropped)
    return Curated(after.records, dropped)
