from pathlib import Path

import pytest

from episodes.datasets import phantom as reader
from episodes.errors import DatasetError
from episodes.phantoms.layouts import prepare_phantoms, write_folder
from episodes.phantoms.population import PhantomSpec, generate

SPEC = PhantomSpec("portable", n_images=12, size=32)


def test_records_are_those_that_were_written(tmp_path: Path) -> None:
    records = sorted(reader.read(prepare_phantoms(SPEC, tmp_path)), key=lambda record: record.id)
    for record, phantom in zip(records, generate(SPEC), strict=True):
        assert record.id == f"phantom-portable/{phantom.name}"
        assert (record.label, record.patient, record.spacing) == (
            phantom.label,
            phantom.patient,
            phantom.spacing,
        )
        assert record.mask_format == "binary"


def test_reading_a_folder_without_its_description_names_the_fix(tmp_path: Path) -> None:
    write_folder(generate(SPEC), tmp_path)
    with pytest.raises(DatasetError, match=r"phantom\.json is missing.*generate it again.*'folder'"):
        reader.read(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"scanner": 1}', "\xff"])
def test_a_damaged_description_is_one_readable_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "phantom.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"phantom\.json is damaged"):
        reader.read(tmp_path)
