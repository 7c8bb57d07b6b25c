"""What is wrong with a dataset: the first of it is raised, or all of it is listed."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from episodes.datasets import read_dataset
from episodes.datasets.problems import Problem, collected_problems, report_left_out, report_problem
from episodes.errors import DatasetError
from episodes.records import Record
from tests.episodes.datasets.made_trees import save_image, save_mask, write_table

Found = set[tuple[str, str]]


def listed(name: str, root: Path) -> tuple[list[str], Found]:
    """The stems of the records that can be used, and the kind and file of each problem.

    Outside of the collection, the first thing that is no mere note is raised in the same words.
    """
    with collected_problems() as problems:
        records = read_dataset(name, root)
    with pytest.raises(DatasetError) as error:
        read_dataset(name, root)
    assert str(error.value) in [problem.message for problem in problems]
    return [record.stem for record in records], {(one.kind, one.subject.name) for one in problems}


def busi(root: Path) -> None:
    for number in (1, 2, 3):
        save_image(root / "benign" / f"benign ({number}).png", number)
    save_mask(root / "benign" / "benign (2)_mask.png")
    save_mask(root / "benign" / "benign (2)_mask (1).png")
    save_mask(root / "benign" / "benign (9)_mask.png")
    save_image(root / "benign" / "logo.png")
    for label in ("malignant", "normal"):
        save_image(root / label / f"{label} (1).png")


def bus_uclm(root: Path) -> None:
    for number in range(5):
        save_image(root / "images" / f"A_{number}.png", number)
    save_image(root / "images" / "A_0 (1).png")
    for number in (0, 2, 3, 4):
        save_mask(root / "masks" / f"A_{number}.png", mode="RGB", colour=(0, 255, 0))
    rows = [(f"A_{number}.png", "Benign" if number < 3 else "Cyst", "No", "No", "No") for number in range(4)]
    rows += [("A_0.png", "Malignant", "No", "No", "No"), ("A_7.png", "Benign", "No", "No", "No")]
    write_table(root / "INFO.csv", [("Image", "Label", "Doppler", "Marks", "Combined"), *rows, ("A_4.png", "Benign")])


def bus_bra(root: Path) -> None:
    for number in range(4):
        save_image(root / "Images" / f"bus_{number}-l.png", number)
    for number in (0, 2, 3):
        save_mask(root / "Masks" / f"mask_{number}-l.png")
    save_mask(root / "Masks" / "mask_0-l (1).png")
    header = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Side")
    labels = ("benign", "malignant", "normal")
    rows = [(f"bus_{number}-l", number, "", label, 2, "", "left") for number, label in enumerate(labels)]
    write_table(root / "bus_data.csv", [header, *rows])


def udiat_listed(root: Path) -> None:
    for number in range(4):
        save_image(root / "original" / f"{number}.png", number)
    for number in range(3):
        save_mask(root / "GT" / f"{number}.png")
    save_mask(root / "GT" / "0 (1).png")
    (root / "benign.txt").write_text("0\n1\n3\n")
    (root / "malignant.txt").write_text("1\n")


def udiat_by_class(root: Path) -> None:
    for number, folder in enumerate(("Benign", "Benign", "Malignant")):
        save_image(root / folder / f"{number}.png", number)
    save_mask(root / "all_masks" / "0.png")


def breast_usg(root: Path) -> None:
    for number in range(1, 5):
        save_image(root / f"case{number}.png", number)
    save_mask(root / "case1_tumor.png")
    save_mask(root / "case1_other1.png")
    save_mask(root / "case1_tumor (1).png")
    rows = [("case1.png", "benign"), ("case2.png", "malignant"), ("case3.png", "B")]
    write_table(root / "table.csv", [("Image_filename", "Classification"), *rows])


@pytest.mark.parametrize(
    ("name", "write", "kept", "problems"),
    [
        (
            "busi",
            busi,
            ["benign (2)", "normal (1)"],
            {
                ("missing file", "benign (1).png"),
                ("missing file", "benign (3).png"),
                ("missing file", "malignant (1).png"),
                ("stray copy", "benign (2)_mask (1).png"),
                ("extra file", "benign (9)_mask.png"),
                ("extra file", "logo.png"),
            },
        ),
        (
            "bus_uclm",
            bus_uclm,
            ["A_0", "A_2"],
            {
                ("missing file", "A_1.png"),
                ("bad label", "A_3.png"),
                ("bad row", "INFO.csv"),
                ("missing row", "A_4.png"),
                ("row without image", "A_7"),
                ("stray copy", "A_0 (1).png"),
            },
        ),
        (
            "bus_bra",
            bus_bra,
            ["bus_0-l"],
            {
                ("missing file", "bus_1-l.png"),
                ("bad label", "bus_2-l.png"),
                ("missing row", "bus_3-l.png"),
                ("stray copy", "mask_0-l (1).png"),
            },
        ),
        (
            "udiat",
            udiat_listed,
            ["0"],
            {
                ("bad label", "1.png"),
                ("missing row", "2.png"),
                ("missing file", "3.png"),
                ("stray copy", "0 (1).png"),
            },
        ),
        ("udiat", udiat_by_class, ["0"], {("missing file", "1.png"), ("missing file", "2.png")}),
        (
            "breast_usg",
            breast_usg,
            ["case1"],
            {
                ("missing file", "case2.png"),
                ("bad label", "case3.png"),
                ("missing row", "case4.png"),
                ("extra file", "case1_other1.png"),
                ("stray copy", "case1_tumor (1).png"),
            },
        ),
    ],
)
def test_readers_list_all_that_is_wrong(
    tmp_path: Path, name: str, write: Callable[[Path], None], kept: Sequence[str], problems: Found
) -> None:
    write(tmp_path)
    assert listed(name, tmp_path) == (kept, problems)


def read_twice(root: Path) -> list[Record]:
    return [Record("mine", root / folder / "a.png", (), "normal", "p") for folder in ("one", "two")]


def test_of_two_images_with_one_name_the_first_is_kept(tmp_path: Path) -> None:
    stems, problems = listed(f"{__name__}:read_twice", tmp_path)
    assert (stems, problems) == (["a"], {("name taken twice", "a.png")})
    with collected_problems():
        (record,) = read_dataset(f"{__name__}:read_twice", tmp_path)
    assert record.image == tmp_path / "one" / "a.png"


def test_a_dataset_that_is_not_there_at_all_still_raises(tmp_path: Path) -> None:
    with collected_problems() as problems, pytest.raises(DatasetError, match="lacks the folders"):
        read_dataset("busi", tmp_path)
    assert problems == []


def test_what_comes_before_and_after_is_raised_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    path = Path("a.png")
    with collected_problems() as outer:
        report_problem("missing file", path, "a.png: gone")
        with collected_problems() as inner:
            report_left_out("extra file", path, "a.png: left out")
        report_left_out("stray copy", path, "a.png: a copy")
    assert inner == [Problem("extra file", path, "a.png: left out")]
    assert outer == [Problem("missing file", path, "a.png: gone"), Problem("stray copy", path, "a.png: a copy")]
    assert not caplog.messages
    with pytest.raises(DatasetError, match=r"^a\.png: gone$"):
        report_problem("missing file", path, "a.png: gone")
    with caplog.at_level(logging.WARNING):
        report_left_out("stray copy", path, "a.png: 100 % a copy")
    assert caplog.messages == ["a.png: 100 % a copy"]


def test_an_error_ends_the_collection() -> None:
    with pytest.raises(ZeroDivisionError), collected_problems():
        raise ZeroDivisionError
    with pytest.raises(DatasetError):
        report_problem("missing file", Path("a.png"), "a.png: gone")
