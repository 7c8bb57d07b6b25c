"""A curated list: the images that somebody looked through and found good, as a text file of their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.errors import DatasetError
from episodes.files import read_text
from episodes.policies.dropped import Curated, Dropped
from episodes.policies.names import ImageNames
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
