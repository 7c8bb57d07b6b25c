"""Images with a Doppler overlay, whose colours are no tissue; datasets that state it do so in `Record.extra`."""

from collections.abc import Sequence

from episodes.errors import DatasetError
from episodes.policies.dropped import Curated, Dropped
from episodes.records import Record

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
