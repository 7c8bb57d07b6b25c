"""Arrays written row by row: NumPy's own bytes, space that is taken beforehand, and no map behind the end of a file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.storage.row_file import DecodedRow, RowFile, RowJournal, map_rows, size_on_disk

VALUES = np.random.default_rng(0).integers(0, 256, (5, 3, 7), dtype=np.uint8)


def written(path: Path) -> Path:
    with RowFile(path, VALUES.shape) as file:
        for row in (3, 0, 4, 1, 2):
            file.write(row, VALUES[row])
    return path


def test_bytes_are_those_that_numpy_writes(tmp_path: Path) -> None:
    np.save(tmp_path / "numpy.npy", VALUES)
    assert written(tmp_path / "rows.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    assert (tmp_path / "rows.npy").stat().st_size == size_on_disk(VALUES.shape)


@given(shape=st.lists(st.integers(1, 10**9), min_size=1, max_size=4).map(tuple))
def test_a_size_is_that_of_header_and_values(shape: tuple[int, ...]) -> None:
    assert size_on_disk(shape) == 128 + int(np.prod(np.array(shape, dtype=object)))


def test_space_is_taken_before_the_first_row(tmp_path: Path) -> None:
    shape = (100, 128, 128)
    with RowFile(tmp_path / "rows.npy", shape):
        assert (tmp_path / "rows.npy").stat().st_blocks * 512 >= size_on_disk(shape)


def test_an_existing_file_keeps_its_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.npy")
    with RowFile(path, VALUES.shape) as file:
        assert np.array_equal(file.read(2), VALUES[2])
        file.write(2, VALUES[0])
    expected = VALUES.copy()
    expected[2] = VALUES[0]
    assert np.array_equal(map_rows(path, VALUES.shape), expected)


def test_rows_that_are_not_contiguous_are_written_as_they_look(tmp_path: Path) -> None:
    with RowFile(tmp_path / "rows.npy", (1, 7, 3)) as file:
        file.write(0, VALUES[0].T)
    assert np.array_equal(np.load(tmp_path / "rows.npy")[0], VALUES[0].T)


@pytest.mark.parametrize("change", [b"", b"\0"], ids=["shorter", "longer"])
def test_a_file_of_another_size_is_not_mapped(change: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.npy")
    path.write_bytes(path.read_bytes() + change if change else path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not an array of"):
        map_rows(path, VALUES.shape)


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 21), (105,), (4, 3, 7)])
def test_an_array_of_another_shape_is_not_mapped(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not an array of"):
        map_rows(written(tmp_path / "rows.npy"), shape)


# The journal of rows


ROWS = [DecodedRow(600, 800 + number, number % 2 == 0, 2**32 - 1 - number) for number in range(4)]


def journal_of(path: Path, rows: list[DecodedRow]) -> Path:
    with RowJournal(path) as journal:
        for row in rows:
            journal.add(row)
    return path


def test_a_journal_is_read_as_it_was_written_and_goes_on(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "rows.jsonl", ROWS[:2])
    with RowJournal(path) as journal:
        assert journal.rows == ROWS[:2]
        journal.keep(1)
        journal.add(ROWS[3])
    with RowJournal(path) as journal:
        assert journal.rows == [ROWS[0], ROWS[3]]


@given(content=st.binary(max_size=40), cut=st.integers(0, 400))
def test_whatever_follows_whole_lines_is_written_over(
    content: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = journal_of(tmp_path_factory.mktemp("journal") / "rows.jsonl", ROWS).read_bytes()[:cut]
    path = tmp_path_factory.mktemp("journal") / "rows.jsonl"
    path.write_bytes(whole + b"\xff" + content)
    lines = whole.count(b"\n")
    with RowJournal(path) as journal:
        assert journal.rows == ROWS[:lines]
        for row in ROWS[lines:]:
            journal.add(row)
    assert path.read_bytes() == journal_of(path.with_name("undisturbed"), ROWS).read_bytes()
