from pathlib import Path

import pytest

from episodes.datasets.tables import read_table
from episodes.errors import DatasetError
from tests.episodes.datasets.made_trees import write_excel

EXPECTED = [{"name": "a b", "count": "1"}, {"name": "c", "count": ""}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_any_csv(tmp_path: Path, delimiter: str, encoding: str, newline: str) -> None:
    lines = ["name,count", " a b , 1", ",", "c,", ""]
    path = tmp_path / "table.csv"
    path.write_bytes(newline.join(lines).replace(",", delimiter).encode(encoding))
    assert read_table(path, ("name", "count")) == EXPECTED


def test_quoted_values(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('name,box\na,"[1,2]"\n"two\nlines",x\n')
    assert [row["box"] for row in read_table(path)] == ["[1,2]", "x"]


def test_excel(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "table.xlsx", [("name", "count"), ("a b ", 1.0), (None, None), ("c", None)])
    assert read_table(path) == EXPECTED


def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with pytest.raises(DatasetError, match=r"table\.csv is missing; restore it"):
        read_table(path)
    path.write_text(" \n,,\n")
    with pytest.raises(DatasetError, match=r"table\.csv is empty; restore it"):
        read_table(path)
    path.write_text("name,count\na,1\nb,2,3\n")
    with pytest.raises(DatasetError, match=r"table\.csv, row 3: 3 values for 2 columns"):
        read_table(path)
    path.write_bytes("name\nMüller\n".encode("cp1252"))
    with pytest.raises(DatasetError, match=r"table\.csv is no readable table \(.*\); save it as CSV in UTF-8"):
        read_table(path)
    (tmp_path / "table.xlsx").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DatasetError, match=r"table\.xlsx is no readable Excel table \(.*\); restore the original"):
        read_table(tmp_path / "table.xlsx")
