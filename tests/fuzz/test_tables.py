"""The tables of datasets, CSV and Excel, and the readers that trust them."""

import shutil
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.datasets import read_dataset, tables
from episodes.datasets.tables import read_table
from episodes.phantoms.layouts import write_bus_uclm, write_folder, write_udiat
from episodes.phantoms.population import PhantomSpec, generate
from tests.fuzz.mutations import damaged
from tests.fuzz.watched import fuzzing, require_read_or_refused

openpyxl = pytest.importorskip("openpyxl")

WRITERS = {"folder": write_folder, "bus_uclm": write_bus_uclm, "udiat": write_udiat}
# What a cell can hold in place of what it should.
CELLS = (
    "",
    "nan",
    "-1",
    "1e999",
    "../../etc/passwd",
    "=1+1",
    "x" * 200_000,
    '"',
    "a\nb",
    "é",
    "benign",
    "\ufeff",
    ";" * 50,
)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    phantoms = list(generate(PhantomSpec("linear", 6, size=64)))
    found = {}
    for reader, write in WRITERS.items():
        found[reader] = tmp_path_factory.mktemp(reader)
        write(phantoms, found[reader])
    return found


@pytest.fixture(scope="module")
def workbook(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    book = openpyxl.Workbook()
    for row in (("Image", "Label", "Size"), ("a.png", "Benign", 1.5), ("b.png", "Malignant", 2)):
        book.active.append(row)
    content = BytesIO()
    book.save(content)
    return content.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "table.xlsx"


def tables_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix in (".csv", ".txt"))


def require_sane(reader: str, root: Path, table: Path, content: bytes) -> None:
    """Damage a table, read the dataset, and put it back; a complaint may name an image in place of the table."""
    whole = table.read_bytes()
    table.write_bytes(content)
    try:
        require_read_or_refused(lambda: read_dataset(reader, root), root)
    finally:
        table.write_bytes(whole)


@fuzzing(150)
@given(st.sampled_from(sorted(WRITERS)), st.data())
def test_damaged_tables(roots: dict[str, Path], reader: str, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(tables_of(roots[reader])))
    require_sane(reader, roots[reader], table, data.draw(damaged(table.read_bytes())))


@fuzzing(100)
@given(st.sampled_from(sorted(WRITERS)), st.data())
def test_wrong_cells(roots: dict[str, Path], reader: str, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(tables_of(roots[reader])))
    rows = [line.split(",") for line in table.read_text().splitlines()]
    for _ in range(data.draw(st.integers(1, 3))):
        row = rows[data.draw(st.integers(0, len(rows) - 1))]
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.sampled_from(CELLS))
    require_sane(reader, roots[reader], table, "\n".join(",".join(row) for row in rows).encode())


@pytest.fixture(scope="module")
def real_roots(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the real datasets as they are distributed, of which there are a few images."""
    parent = tmp_path_factory.mktemp("real")
    folders = {"bus_bra": "BUSBRA", "bus_uclm": "BUS-UCLM"}
    if not all((shared_data / "native" / name).is_dir() for name in folders.values()):
        pytest.skip(f"no real datasets as they are distributed at {shared_data / 'native'}")
    return {
        reader: Path(shutil.copytree(shared_data / "native" / name, parent / name)) for reader, name in folders.items()
    }


@fuzzing(40)
@given(st.sampled_from(("bus_bra", "bus_uclm")), st.data())
def test_damaged_tables_of_real_datasets(real_roots: dict[str, Path], reader: str, data: st.DataObject) -> None:
    root = real_roots[reader]
    table = data.draw(st.sampled_from([path for path in tables_of(root) if path.suffix == ".csv"]))
    content = table.read_bytes()
    end = data.draw(st.sampled_from((300, len(content))))
    require_sane(reader, root, table, data.draw(damaged(content[:end])) + content[end:])


@fuzzing(100)
@given(st.data())
def test_damaged_workbooks(workbook: bytes, place: Path, data: st.DataObject) -> None:
    place.write_bytes(data.draw(damaged(workbook)))
    require_read_or_refused(lambda: read_table(place), place)


@fuzzing(60)
@given(st.data())
def test_workbooks_of_damaged_parts(workbook: bytes, place: Path, data: st.DataObject) -> None:
    with ZipFile(BytesIO(workbook)) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    changed = data.draw(st.sampled_from(sorted(parts)))
    parts[changed] = data.draw(damaged(parts[changed]))
    place.write_bytes(zipped(parts))
    require_read_or_refused(lambda: read_table(place), place)


def zipped(parts: dict[str, bytes]) -> bytes:
    content = BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return content.getvalue()


def with_sheet(workbook: bytes, sheet: bytes) -> bytes:
    with ZipFile(BytesIO(workbook)) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    return zipped({**parts, "xl/worksheets/sheet1.xml": sheet})


@pytest.mark.parametrize(
    "sheet",
    [
        b'<row r="1"><c r="A1"><v>1</v></c></row>' + b'<row><c r="XFD1"><v>1</v></c></row>' * 1_000,
        b'<row r="1"><c r="A1"><v>1</v></c></row><row r="999999999"><c r="A999999999"><v>1</v></c></row>',
        b"<row>" + b" " * 150_000_000 + b"</row>",
    ],
    ids=["a thousand rows to the last column", "a row after a thousand million", "150 MB of spaces"],
)
def test_a_small_workbook_that_unpacks_to_a_large_one(workbook: bytes, place: Path, sheet: bytes) -> None:
    head = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    place.write_bytes(with_sheet(workbook, head + sheet + b"</sheetData></worksheet>"))
    assert place.stat().st_size < 2**20
    assert not require_read_or_refused(lambda: read_table(place), place)


def test_entities_that_multiply_are_refused(workbook: bytes, place: Path) -> None:
    """A billion laughs: ten entities of ten entities each, nine times over."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    cell = "<worksheet><sheetData><row><c><v>&e9;</v></c></row></sheetData></worksheet>"
    place.write_bytes(with_sheet(workbook, f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]>{cell}'.encode()))
    assert not require_read_or_refused(lambda: read_table(place), place)


def test_a_table_with_more_values_than_a_dataset_has(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_VALUES", 1_000)
    table = place.with_suffix(".csv")
    table.write_text("a,b\n" + "1,2\n" * 400)
    assert not require_read_or_refused(lambda: read_table(table), table)


def test_a_missing_table_is_named(roots: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(roots["bus_uclm"], tmp_path / "copy"))
    (tables_of(root)[0]).unlink()
    assert not require_read_or_refused(lambda: read_dataset("bus_uclm", root), root)
