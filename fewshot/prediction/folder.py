"""The folder of results as it grows: what is done already, what is added, and how it ends."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from episodes.errors import DatasetError
from episodes.files import write_text
from fewshot.prediction.inputs import Input
from fewshot.prediction.predicted import Predicted
from fewshot.prediction.reading import CaseReader
from fewshot.prediction.results import Case, picture_paths, row_of, write_pictures
from fewshot.prediction.table import Row, add_row, csv_text, key_of, read_rows, write_rows

TABLE, FAILED = "predictions.csv", "failed.csv"


class ResultFolder:
    """A folder with the results of images, whose row is written after their pictures: where it is, they are.

    Args:
        path: of the folder.
        npy: whether probabilities are NumPy's files.

    Raises:
        UserError: if its table is none of ours.
        StorageError: if it cannot be written.
    """

    def __init__(self, path: Path, *, npy: bool) -> None:
        self.path = path
        self.npy = npy
        self._rows = {key_of(row): row for row in read_rows(path / TABLE)}
        write_rows(path / TABLE, self._rows.values())  # without what a killed process left of a line

    @property
    def rows(self) -> list[Row]:
        """All rows, by image and frame."""
        return [self._rows[key] for key in sorted(self._rows)]

    def has(self, one: Input, reader: CaseReader) -> bool:
        """Whether the results of an image are there, and nothing that they were made from has changed since."""
        row = self._rows.get(one.key)
        mask, *others = picture_paths(one.name, npy=self.npy)
        if row is None or row["mask"] != mask.as_posix():
            return False
        try:
            unchanged = row["inputs"] == reader.hash(one)
        except DatasetError:
            return False
        return unchanged and all((self.path / picture).is_file() for picture in (mask, *others))

    def add(self, case: Case, found: Predicted) -> None:
        """Write the pictures of an image, then its row.

        Raises:
            StorageError: if something cannot be written.
        """
        write_pictures(self.path, case, found, npy=self.npy)
        row = row_of(case, found)
        add_row(self.path / TABLE, row)
        self._rows[case.input.key] = row

    def finish(self, failed: Mapping[Input, str]) -> None:
        """Put the rows in order, and list the images that could not be read.

        Args:
            failed: why, of each.

        Raises:
            StorageError: if something cannot be written.
        """
        for one in failed:
            self._rows.pop(one.key, None)
        write_rows(self.path / TABLE, self.rows)
        if failed:
            write_text(self.path / FAILED, _failed_text(failed.items()))
        else:
            (self.path / FAILED).unlink(missing_ok=True)


def _failed_text(failed: Iterable[tuple[Input, str]]) -> str:
    rows = ((one.image, one.frame or "", reason) for one, reason in failed)
    return csv_text([("image", "frame", "reason"), *rows])
