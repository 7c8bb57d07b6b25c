"""CSV that spreadsheets open."""

import csv
import math
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.datasets.tables import read_csv
from episodes.io.files import csv_text, plain_cell
from fewshot.predict.results import COLUMNS, read_rows, write_rows

MARKS = ("=", "+", "-", "@", "\t", "\r")
NAMES = st.text(st.sampled_from("=+-@\t\r\n'\",;a1.e äß") | st.characters(codec="utf-8"))


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(StringIO(text, newline="")))


@given(st.lists(NAMES, min_size=1))
def test_no_cell_of_text_is_run_as_a_formula_and_each_can_be_read_back(names: list[str]) -> None:
    (found,) = cells(csv_text([[*names, "end"]]))
    assert [plain_cell(cell) for cell in found[:-1]] == names
    for cell in found:
        if cell.startswith(MARKS):
            float(cell)


@given(st.sampled_from(MARKS), NAMES)
def test_a_cell_that_begins_like_a_formula_begins_with_an_apostrophe(mark: str, rest: str) -> None:
    ((found, _),) = cells(csv_text([[f"{mark}x{rest}", ""]]))
    assert found == f"'{mark}x{rest}"


@given(st.floats(allow_nan=False) | st.integers())
def test_numbers_stay(number: float) -> None:
    assert csv_text([[number]]) == f"{number}\n"
    if math.isfinite(number):
        assert csv_text([[str(number)]]) == f"{number}\n"


@pytest.mark.parametrize("mark", MARKS)
def test_what_we_write_we_read(tmp_path: Path, mark: str) -> None:
    row = dict.fromkeys(COLUMNS, "") | {"image": f"{mark}cmd|x.png", "area_px": "-1.5"}
    write_rows(tmp_path / "predictions.csv", [row])
    assert read_rows(tmp_path / "predictions.csv") == [row]
    table = tmp_path / "metadata.csv"
    table.write_bytes(csv_text([["image"], [f"{mark}cmd|x.png"]]).encode())
    assert read_csv(table) == [["image"], [f"{mark}cmd|x.png"]]
