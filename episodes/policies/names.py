"""The images that a list or a file of corrections names, in whichever way people spell them."""

from collections.abc import Iterable, Sequence

from episodes.errors import DatasetError
from episodes.records import Record


class ImageNames:
    """Finds records by id (`busi/benign (1)`), by the id's last part, or by file name with or without suffix.

    A file of several frames is named as a whole by its file's name.

    >>> from pathlib import Path
    >>> record = Record("busi", Path("benign/benign (1).png"), (), "benign", "benign (1)")
    >>> ImageNames([record]).ids(["benign (1)", "benign (1).png"], "list.txt")
    {'busi/benign (1)': 'benign (1).png'}
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._dataset = records[0].dataset if records else "the dataset"
        self._ids: dict[str, list[str]] = {}
        for record in records:
            for spelling in {record.id, record.id.partition("/")[2], record.image.name, record.image.stem}:
                self._ids.setdefault(spelling, []).append(record.id)

    def ids(self, names: Iterable[str], file: str) -> dict[str, str]:
        """The ids of the images named, each with its name in the file.

        Args:
            names: in any spelling.
            file: the file that they stand in, for the message.

        Raises:
            DatasetError: if there is no such image; it names the first three.
        """
        names = list(names)
        require_known(names, self._ids, f"images that {self._dataset} does not have", file)
        return {record_id: name for name in names for record_id in self._ids[name]}


def require_known(names: Iterable[str], known: Iterable[str], what: str, file: str) -> None:
    """Refuse names that are not known.

    Raises:
        DatasetError: names the first three, what they are, and the file that they stand in.
    """
    known = set(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise DatasetError(f"{file}: names {what}: {', '.join(unknown[:3])}{more}; correct the names, or take them out")
