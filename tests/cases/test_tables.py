"""Tables and headers as users have them: who is whom, and how large a pixel is."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes.datasets import read_dataset
from episodes.datasets.metadata import COLUMNS, read_metadata
from episodes.datasets.patients import similar_names
from episodes.datasets.tables import is_missing, read_table
from episodes.errors import DatasetError
from tests.cases.conftest import Fewshot
from tests.episodes.datasets.made_trees import save_image, save_mask, write_excel, write_table
from tests.episodes.made_dicom import gradient, write_dicom
from tests.fewshot.predict.conftest import write_checkpoint

Rows = Sequence[Sequence[object]]


def clinic(root: Path, rows: Rows = (), table: str = "metadata.csv") -> Path:
    """Four images with masks, and a table of what is known of them."""
    for number in range(4):
        save_image(root / "images" / f"s{number}.png", number, mode="L")
        save_mask(root / "masks" / f"s{number}.png")
    if rows:
        (write_excel if table.endswith(".xlsx") else write_table)(root / table, rows)
    return root


def with_patients(*patients: str, spacing: str = "") -> Rows:
    lines = ((f"s{number}", "benign", name, spacing) for number, name in enumerate(patients))
    return [COLUMNS, *lines]


def patients_of(root: Path) -> list[str]:
    return [record.patient for record in read_dataset("folder", root)]


def test_table_alt_cols(fewshot: Fewshot, tmp_path: Path) -> None:
    rows = [("image", "class", "patient_id", "pixel_spacing", "age")]
    clinic(tmp_path, [*rows, *((f"s{n}", "malignant", "ab"[n // 2], "0.1", 50 + n) for n in range(4))])
    records = read_dataset("folder", tmp_path)
    assert {(one.label, one.spacing, one.extra["age"][0]) for one in records} == {("malignant", (0.1, 0.1), "5")}
    assert [one.patient for one in records] == ["a", "a", "b", "b"]
    init = fewshot("data", "init", tmp_path).out
    assert "4 malignant (from metadata.csv, column class)" in init
    assert "patients  2 (from metadata.csv, column patient_id)" in init
    told = "read are image, label (class), patient (patient_id), spacing_mm (pixel_spacing); not read: age"
    assert init.count(told) == 1
    assert "not read: age" in fewshot("data", "check", tmp_path, "--dataset", "folder", "--details").out
    assert fewshot("data", "prepare", tmp_path, "--dataset", "folder", "--size", 32).message.count("not read: age") == 1


def test_table_partial_case(tmp_path: Path) -> None:
    clinic(
        tmp_path, [("IMAGE", "Label", " Patient ", "Spacing_mm"), *((f"s{n}", "Benign", "a", 0.1) for n in range(4))]
    )
    assert {(one.label, one.patient, one.spacing) for one in read_dataset("folder", tmp_path)} == {
        ("benign", "a", (0.1, 0.1))
    }


@pytest.mark.parametrize("twice", [("patient", "patient"), ("Patient", "patient"), ("patient id", "Patient_ID")])
def test_table_dup_cols(fewshot: Fewshot, tmp_path: Path, twice: tuple[str, str]) -> None:
    clinic(tmp_path, [("image", *twice), *((f"s{n}", "a", "b") for n in range(4))])
    for arguments in (("init", tmp_path), ("check", tmp_path, "--dataset", "folder")):
        ended = fewshot("data", *arguments)
        assert ended.status == 1
        assert f"metadata.csv: a column is there twice ({twice[0]!r} and {twice[1]!r})" in ended.message


def test_table_other_name(fewshot: Fewshot, tmp_path: Path) -> None:
    rows = with_patients("a", "a", "b", "b")
    clinic(tmp_path, rows, "Metadata.csv")
    write_table(tmp_path / "labels.csv", rows)
    assert patients_of(tmp_path) == ["a", "a", "b", "b"]
    init = fewshot("data", "init", tmp_path).out
    assert "(from Metadata.csv)" in init
    assert "labels.csv: left out: Metadata.csv is read; to have this one read, save it as metadata.csv" in init
    refused = fewshot("data", "init", tmp_path, "--metadata")
    assert refused.status == 1
    assert "Metadata.csv: is the table that is read; fill in that one" in refused.message


@pytest.mark.parametrize("name", ["labels.csv", "images/metadata.csv", "METADATA.TSV", "meta_data.txt", "list.xlsx"])
def test_the_only_table_of_the_images_is_read(tmp_path: Path, name: str) -> None:
    clinic(tmp_path, with_patients("a", "a", "b", "b"), name)
    assert patients_of(tmp_path) == ["a", "a", "b", "b"]


def test_tables_that_are_not_known_to_be_the_one_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = with_patients("a", "a", "b", "b")
    clinic(tmp_path, rows, "first.csv")
    write_table(tmp_path / "second.csv", rows)
    write_table(tmp_path / "machines.csv", [("machine", "year"), ("Logiq", 2012)])
    (tmp_path / "metadata.xls").write_bytes(b"old")
    assert patients_of(tmp_path) == ["?s0", "?s1", "?s2", "?s3"]
    for name in ("first.csv", "second.csv", "machines.csv", "metadata.xls"):
        assert sum(f"{name}: left out: it is not known to be the table" in line for line in caplog.messages) == 1


def test_table_xlsx(tmp_path: Path) -> None:
    clinic(
        tmp_path,
        [("image", "label", "patient"), *((f"s{n}", "benign", float(n // 2 + 1)) for n in range(4))],
        "metadata.xlsx",
    )
    assert patients_of(tmp_path) == ["1", "1", "2", "2"]


@pytest.mark.parametrize("mark", ["NA", "nan", "NaN", "N/A", "#N/A", "-", "?", "none", "null", "Unknown", "", "n.a."])
def test_unknown_patients(fewshot: Fewshot, tmp_path: Path, mark: str) -> None:
    """Each is a patient of its own, who is not the one that bears its image's name."""
    clinic(tmp_path, with_patients(mark, mark, "s0", "s1"))
    assert patients_of(tmp_path) == ["?s0", "?s1", "s0", "s1"]
    assert "metadata.csv: 2 of 4 images name no patient (first: s0)" in fewshot("data", "init", tmp_path).out


def test_table_patient_NA_R(tmp_path: Path) -> None:  # noqa: N802 - the case's name
    records = read_dataset("folder", clinic(tmp_path, with_patients("NA", "NA", "NA", "b", spacing="NA")))
    assert [record.patient for record in records] == ["?s0", "?s1", "?s2", "b"]
    assert [record.spacing for record in records] == [None] * 4


def test_patient_na(tmp_path: Path) -> None:
    assert patients_of(clinic(tmp_path, with_patients("N/A", "N/A", "-", "unknown"))) == ["?s0", "?s1", "?s2", "?s3"]


def test_patient_nan(fewshot: Fewshot, tmp_path: Path) -> None:
    clinic(tmp_path, with_patients("nan", "NaN", "nan", "nan"))
    assert patients_of(tmp_path) == ["?s0", "?s1", "?s2", "?s3"]
    assert "patients  4 (none are named: every image counts as one)" in fewshot("data", "init", tmp_path).out


def test_a_name_that_begins_as_unknown_ones_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"metadata\.csv, s1: the patient '\?s0' begins with \?, as unknown ones do"):
        read_dataset("folder", clinic(tmp_path, with_patients("", "?s0", "b", "c")))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param(
            ("P-01", "p-01", "P 01", "P-1"), "patients P-1, P 01, P-01, p-01 are named alike", id="case_space"
        ),
        pytest.param(("1.0", "1", "01", "2.0"), "patients 1, 01, 1.0 are named alike", id="excel_float"),
    ],
)
def test_patient_case_space_and_patient_excel_float(
    fewshot: Fewshot, tmp_path: Path, names: Sequence[str], said: str
) -> None:
    clinic(tmp_path, with_patients(*names))
    assert patients_of(tmp_path) == list(names)
    init, check = (
        fewshot("data", "init", tmp_path).out,
        fewshot("data", "check", tmp_path, "--dataset", "folder", "--details"),
    )
    for text in (init, " ".join(check.out.split())):
        assert said in text
        assert "if they are one, spell them alike in the table" in text


def test_one_patient_for_everything(fewshot: Fewshot, tmp_path: Path) -> None:
    clinic(tmp_path, with_patients(*["x"] * 4))
    for ended in (
        fewshot("data", "init", tmp_path),
        fewshot("data", "check", tmp_path, "--dataset", "folder", "--details"),
    ):
        assert "all 4 images are of one patient (x)" in ended.out


def dicom(root: Path, headers: Sequence[Mapping[str, str]]) -> Path:
    """Images whose headers name patients as given, and say nothing else of them."""
    for number, header in enumerate(headers):
        identity = {"StudyInstanceUID": "", "PatientName": "", **header}
        write_dicom(root / "images" / f"s{number}.dcm", gradient() + number, patient="", facts=identity)
        save_mask(root / "masks" / f"s{number}.png")
    return root


@pytest.mark.parametrize(
    "placeholder", ["ANONYMIZED", "anonymous", "0000", "XXXX", "No Name", "DE-IDENTIFIED", "", "N/A"]
)
def test_dcm_anonymised_id(fewshot: Fewshot, tmp_path: Path, placeholder: str) -> None:
    studies = ("1.2.1", "1.2.1", "1.2.2", "")
    dicom(tmp_path, [{"PatientID": placeholder, "StudyInstanceUID": study} for study in studies])
    assert patients_of(tmp_path) == ["patient-001", "patient-001", "patient-002", "?s3"]
    init = fewshot("data", "init", tmp_path).out
    assert "4 of 4 DICOM files have no PatientID, or an anonymiser's: 3 go by StudyInstanceUID, each of 1 is" in init


def test_dcm_name_only(fewshot: Fewshot, tmp_path: Path) -> None:
    dicom(tmp_path, [{"PatientName": name} for name in ("Doe^A", "Doe^A", "Roe^B", "Anon^Patient")])
    assert patients_of(tmp_path) == ["patient-001", "patient-001", "patient-002", "?s3"]
    ended = fewshot("data", "check", tmp_path, "--dataset", "folder", "--details")
    assert "3 go by PatientName" in ended.out
    assert "Doe" not in ended.out + ended.err


def test_a_file_without_id_is_of_the_patient_of_its_study_and_of_the_table(tmp_path: Path) -> None:
    study = {"StudyInstanceUID": "1.2.1"}
    dicom(tmp_path, [{"PatientID": "77", **study}, study, {"PatientID": "78"}, {"PatientID": "79"}])
    assert patients_of(tmp_path) == ["patient-001", "patient-001", "patient-002", "patient-003"]
    write_table(tmp_path / "metadata.csv", with_patients("", "", "patient-001", ""))
    assert patients_of(tmp_path) == ["patient-002", "patient-002", "patient-001", "patient-003"]


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "unet.safetensors", "unet")


def require_no_millimetres(fewshot: Fewshot, root: Path, unet: Path, said: str) -> None:
    """Neither `data check`, `data init` nor `predict` takes the pixel size as it stands, and each says so."""
    for arguments in (("init", root), ("check", root, "--dataset", "folder", "--details")):
        assert said in " ".join(fewshot("data", *arguments).out.split())
    assert {record.spacing for record in read_dataset("folder", root)} == {None}
    ended = fewshot("predict", unet, "--images", root / "images", "--out", root / "out")
    assert ended.status == 0, ended.err
    assert said in ended.message
    with (root / "out" / "predictions.csv").open() as file:
        assert {row["area_mm2"] for row in csv.DictReader(file)} == {""}


def test_table_spacing_cm(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    clinic(tmp_path, with_patients(*"abcd", spacing="0.007"))
    said = (
        "the pixel size of s0 and 3 more is not used: 0.007 mm per pixel is not within 0.01 to 1: perhaps centimetres"
    )
    require_no_millimetres(fewshot, tmp_path, unet, said)


def test_table_spacing_um(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    clinic(tmp_path, with_patients(*"abcd", spacing="70"))
    require_no_millimetres(fewshot, tmp_path, unet, "perhaps micrometres, that is 0.07 mm; write millimetres")
    refused = fewshot("predict", unet, "--images", tmp_path / "images", "--out", "out", "--spacing", "70")
    assert refused.status == 1
    assert "--spacing: 70 mm per pixel is not within 0.01 to 1: perhaps micrometres" in refused.message


def test_a_header_in_another_unit(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    dicom(tmp_path, [{"PixelSpacing": ["70", "70"], "PatientID": f"{n}"} for n in (10, 20)])  # type: ignore[dict-item]
    require_no_millimetres(fewshot, tmp_path, unet, "70 mm per pixel is not within 0.01 to 1: perhaps micrometres")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_unicode_table(tmp_path: Path, form: str) -> None:
    """Files and table are spelt in different Unicode forms, as a table from Windows beside files from a Mac."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    names = ("M\u00fcller", "\u00d6kumen", "na\u00efve")
    for number, name in enumerate(names):
        save_image(tmp_path / "images" / f"{normalize(form, name)}.png", number)  # type: ignore[arg-type]
        save_mask(tmp_path / "masks" / f"{normalize(form, name)}.png")  # type: ignore[arg-type]
    rows = [(f"{normalize(other, name)}.png", f"p{number}") for number, name in enumerate(names)]  # type: ignore[arg-type]
    write_table(tmp_path / "metadata.csv", [("image", "patient"), *rows])
    assert sorted(patients_of(tmp_path)) == ["p0", "p1", "p2"]


def test_udiat_nonmalignant(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        save_image(tmp_path / "original" / f"{number:06}.png", number)
        save_mask(tmp_path / "GT" / f"{number:06}.png")
    (tmp_path / "malignant.txt").write_text("3\n4\n")
    (tmp_path / "non-malignant.txt").write_text("1\n2\n")
    with pytest.raises(DatasetError, match=r"000001\.png: no list of cases in .* names it \(2 such\)"):
        read_dataset("udiat", tmp_path)


# Any spelling


def respelt(word: str) -> st.SearchStrategy[str]:
    """A heading in other case, with other marks between its words, and spaces around it."""
    cases: Sequence[Callable[[str], str]] = (str.upper, str.lower, str.title)
    spelt = st.tuples(st.sampled_from(cases), st.sampled_from([" ", "_", "-", "", ". "]), st.sampled_from(["", " "]))
    return spelt.map(lambda how: f"{how[2]}{how[1].join(how[0](part) for part in word.split())}{how[2]}")


def any_of(*words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words).flatmap(respelt)


HEADINGS = st.tuples(
    any_of("image", "file name", "image id"),
    any_of("label", "class"),
    any_of("patient", "patient id", "subject", "subject id", "case id"),
    any_of("spacing mm", "pixel spacing", "pixel size mm"),
)
UNKNOWN_MARKS = st.sampled_from(
    [
        "",
        "NA",
        "na",
        "NaN",
        "#N/A",
        "anonymous",
        "ANONYMIZED",
        "Unbekannt",
        "n/a",
        "N/A",
        "<NA>",
        "-",
        "--",
        "?",
        "None",
        "NULL",
        "unknown",
    ]
)
NAMES = st.from_regex(r"[A-Z]{1,3}[ _-]?[0-9]{1,3}", fullmatch=True)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headings=HEADINGS,
    patients=st.lists(NAMES | UNKNOWN_MARKS, min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    order=st.permutations(range(4)),
    title=st.sampled_from(["", "sep"]),
)
def test_any_spelling_of_a_table(
    tmp_path: Path,
    headings: tuple[str, ...],
    patients: list[str],
    delimiter: str,
    encoding: str,
    newline: str,
    order: Sequence[int],
    title: str,
) -> None:
    rows = [headings, *((f"\u00e9{n}.png", "benign", name, "0.1") for n, name in enumerate(patients))]
    lines = [delimiter.join(row[place] for place in order) for row in rows]
    if title and newline != "\r":
        lines.insert(0, f"sep={delimiter}")
    path = tmp_path / "metadata.csv"
    path.write_bytes("".join(line + newline for line in lines).encode(encoding))
    found = read_metadata(path)
    assert list(found.rows) == [f"\u00e9{n}" for n in range(len(patients))]
    for row, name in zip(found.rows.values(), patients, strict=True):
        assert (row["label"], row["spacing_mm"]) == ("benign", "0.1")
        assert row["patient"] == ("" if is_missing(name) else name)
    assert found.spacings() == dict.fromkeys(found.rows, (0.1, 0.1))


@given(NAMES, st.sampled_from([str.lower, str.upper]), st.sampled_from(["", " ", "-", "_"]), st.integers(0, 3))
def test_names_that_are_spelt_otherwise_are_alike_and_others_are_not(
    name: str, case: Callable[[str], str], mark: str, zeros: int
) -> None:
    letters, digits = name.rstrip("0123456789 _-"), name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ _-")
    other = f"{case(letters)}{mark}{'0' * zeros}{digits}"
    assert similar_names([name, other]) == (
        [] if name == other else [sorted({name, other}, key=lambda one: (len(one), one))]
    )
    assert similar_names([name, f"{letters}{int(digits) + 1}", f"Q{name}"]) == []


def test_readers_of_known_datasets_take_headings_in_any_case(tmp_path: Path) -> None:
    save_image(tmp_path / "Images" / "bus_0001-l.png", 1)
    save_mask(tmp_path / "Masks" / "mask_0001-l.png")
    header = ("id", "CASE", "pathology", "histology", "BI-RADS", "device", "side")
    write_table(tmp_path / "bus_data.csv", [header, ("bus_0001-l", "NA", "benign", "", "2", "GE", "left")])
    (record,) = read_dataset("bus_bra", tmp_path)
    assert (record.patient, record.extra["BIRADS"]) == ("?bus_0001-l", "2")


def test_columns_without_a_heading_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(",image,,\n0,a,,\n1,b,x,\n")
    assert read_table(path) == [{"image": "a"}, {"image": "b"}]


def test_a_diagnosis_is_a_label_where_every_cell_is_one(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    for cells, known in ((("benign", "NA"), True), (("benign", "cyst"), False)):
        write_table(path, [("image", "Diagnosis"), *zip("ab", cells, strict=True)])
        assert ("label" in read_metadata(path).headings) is known
