"""The policy by which a dataset is curated: what is corrected, kept and left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from episodes.curation.corrections import Corrections, Curated, Dropped, ImageNames, correct
from episodes.errors import DatasetError
from episodes.io.files import read_text
from episodes.records import Record

NOT_LISTED = "not on the curated list"


@dataclass(frozen=True, slots=True)
class CuratedList:
    """The only images of a dataset that are to be used.

    Attributes:
        file: where the list stands, for messages.
        names: image ids, or file names with or without suffix.
    """

    file: str
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "CuratedList":
        """Read a text file of one name a line; empty lines and those that begin with `#` say nothing.

        Raises:
            ManifestError: if there is no such file, or it is no text.
            DatasetError: if it names no image.
        """
        lines = (line.strip() for line in read_text(path, "curated list").removeprefix("\ufeff").splitlines())
        names = tuple(line for line in lines if line and not line.startswith("#"))
        if not names:
            raise DatasetError(f"{path}: names no image; write one id or file name a line, or leave the list out")
        return cls(str(path), names)


def keep_listed(records: Sequence[Record], curated: CuratedList, dataset: Sequence[Record]) -> Curated:
    """Keep the images of a curated list.

    Args:
        records: to choose from.
        curated: which of them are kept, in whatever order.
        dataset: all that the list may name, those included that something else has dropped.

    Raises:
        DatasetError: if it names an image that the dataset does not have.
    """
    ids = ImageNames(dataset).ids(curated.names, curated.file)
    kept = tuple(record for record in records if record.id in ids)
    return Curated(kept, tuple(Dropped(record.id, NOT_LISTED) for record in records if record.id not in ids))


DOPPLER = "Doppler overlay"

_COLUMN = "Doppler"
_YES = {"yes", "y", "true", "1"}
_NO = {"no", "n", "false", "0", ""}


def drop_doppler(records: Sequence[Record]) -> Curated:
    """Drop the images that the dataset says to be Doppler images.

    Raises:
        DatasetError: if it says so of none nor the opposite, or says something else than yes or no.
    """
    if not any(_COLUMN in record.extra for record in records):
        raise DatasetError(
            f"{records[0].dataset}: does not state which images have a Doppler overlay, so that none can be dropped for"
            f" it; leave `doppler: drop` out, or give its table a column {_COLUMN!r}"
        )
    shown = [_shows_doppler(record) for record in records]
    return Curated(
        tuple(record for record, doppler in zip(records, shown, strict=True) if not doppler),
        tuple(Dropped(record.id, DOPPLER) for record, doppler in zip(records, shown, strict=True) if doppler),
    )


def _shows_doppler(record: Record) -> bool:
    text = record.extra.get(_COLUMN, "").strip()
    if text.lower() not in _YES | _NO:
        raise DatasetError(f"{record.id}: {_COLUMN} is {text!r}; write Yes or No")
    return text.lower() in _YES


Duplicates = Literal["group", "keep-first", "drop-all"]
Doppler = Literal["keep", "drop"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What of a dataset is used, and as what; it is followed in the order corrections, curated, doppler, duplicates.

    Attributes:
        duplicates: what is done with near-duplicates, as in `episodes.curation.near_duplicates`.
        doppler: whether images with a Doppler overlay are kept.
        curated: the images to choose from; None for all.
        corrections: mistakes of the dataset that are mended; None for none.

    >>> Policy().duplicates
    'group'
    """

    duplicates: Duplicates = "group"
    doppler: Doppler = "keep"
    curated: CuratedList | None = None
    corrections: Corrections | None = None

    @property
    def content(self) -> dict[str, Any]:
        """What the policy says as JSON has it, wherever its files lie."""
        curated, corrections = self.curated, self.corrections
        return {
            "duplicates": self.duplicates,
            "doppler": self.doppler,
            "curated": None if curated is None else sorted(curated.names),
            "corrections": None if corrections is None else corrections.content,
        }


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
