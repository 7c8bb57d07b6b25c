"""What a policy does with near-duplicates: images of one dataset that show the same (`episodes.duplicates`).

Whatever it does, all patients of a group become one, so that no two images that show the same, nor what else is known
of their patients, lie on two sides of a split.

- `group` keeps every image, save those of a group whose labels contradict each other: of these one is wrong, and
  nobody knows which.
- `keep-first` keeps one image of a group, the first by id, and none where labels contradict each other.
- `drop-all` keeps no image of a group.

A group may be of one patient: neighbouring frames of a video, say. That is no fault of the dataset, and `group` keeps
them. The other two treat them as they do all others, because a dataset without near-duplicates is what is asked of
them: who wants the frames has `group`.
"""

from collections.abc import Iterable, Sequence

from episodes.duplicates import group_patients
from episodes.policies.dropped import Curated, Dropped
from episodes.policies.policy import Duplicates
from episodes.records import Record

CONTRADICTING = "near-duplicates with contradicting labels"
REPEATED = "near-duplicate of an image that is kept"
DUPLICATED = "near-duplicates"


def settle_duplicates(records: Sequence[Record], groups: Sequence[Sequence[int]], how: Duplicates) -> Curated:
    """Make one patient of those that share a group of near-duplicates, and drop what the policy drops.

    Args:
        records: of one dataset.
        groups: indices into them, as from `episodes.duplicates.duplicate_groups`.
        how: the policy.

    >>> from pathlib import Path
    >>> a, b = (Record("d", Path(f"{name}.png"), (), "benign", patient=name) for name in "ab")
    >>> settle_duplicates([a, b], [[0, 1]], "keep-first").dropped
    (Dropped(id='d/b', reason='near-duplicate of an image that is kept', detail='shows the same as d/a'),)
    """
    grouped = group_patients(records, groups)
    dropped = [one for group in groups for one in _settle(sorted((records[i] for i in group), key=_id), how)]
    lost = {one.id for one in dropped}
    return Curated(tuple(record for record in grouped if record.id not in lost), tuple(dropped))


def _settle(group: Sequence[Record], how: Duplicates) -> list[Dropped]:
    """What of one group, sorted by id, is dropped."""
    if _contradict(group):
        labels = ", ".join(f"{record.id} {record.label}" for record in group)
        return [Dropped(record.id, CONTRADICTING, labels) for record in group]
    if how == "drop-all":
        return [Dropped(one.id, DUPLICATED, _same_as(other for other in group if other is not one)) for one in group]
    if how == "keep-first":
        return [Dropped(record.id, REPEATED, _same_as(group[:1])) for record in group[1:]]
    return []


def _contradict(group: Sequence[Record]) -> bool:
    """Whether labels cannot all be true; a lesion of unknown kind may be of any, but is no normal."""
    labels = {record.label for record in group}
    return len(labels - {"unknown"}) > 1 or labels == {"normal", "unknown"}


def _same_as(others: Iterable[Record]) -> str:
    return f"shows the same as {', '.join(map(_id, others))}"


def _id(record: Record) -> str:
    return record.id
