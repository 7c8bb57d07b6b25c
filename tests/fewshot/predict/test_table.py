"""The table: rows that are there are whole."""

from pathlib import Path

import pytest

from episodes.errors import UserError
from fewshot.predict.results import COLUMNS, Row, add_row, key_of, read_rows, write_rows
from fewshot.results.numbers import EXACT


def row(image: str, frame: str = "", **values: str) -> Row:
    return dict.fromkeys(COLUMNS, "") | {"image": image, "frame": frame} | values


ROWS = [row("a.png", reason='a "quoted", b'), row("b/clip.dcm", "2"), row("é\nnew line.png")]


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    assert read_rows(path) == []
    write_rows(path, ROWS[:1])
    for one in ROWS[1:]:
        add_row(path, one)
    assert read_rows(path) == ROWS
    assert [key_of(one) for one in ROWS] == [("a.png", 0), ("b/clip.dcm", 2), ("é\nnew line.png", 0)]


def test_wherever_a_process_was_killed_the_rows_before_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_rows(path, ROWS[:2])
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        found = read_rows(path)
        assert found == ROWS[: len(found)]
        write_rows(path, found)
        for one in ROWS[len(found) : 2]:
            add_row(path, one)
        assert path.read_bytes() == whole


def test_a_table_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_rows(path, ROWS)
    before = path.stat()
    write_rows(path, ROWS)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "image\nx\n", '"\n', f"{','.join(COLUMNS)}\na.png,x{',' * 19}\n"])
def test_another_table_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"predictions\.csv: is no table of `fewshot predict` \(.*\); remove it"):
        read_rows(path)


def test_numbers_that_are_not_known_are_empty() -> None:
    assert [EXACT.number(value, 2) for value in (None, float("nan"), 0.0, 12.345)] == ["", "", "0.00", "12.35"]
