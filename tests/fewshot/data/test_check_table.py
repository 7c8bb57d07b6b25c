"""A check of a dataset as people read it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from episodes.curation.findings import CheckReport, Finding
from fewshot.data.showing import counts_table, kinds_table, print_check

REPORT = CheckReport(
    dataset="busi",
    root="data/[copy] BUSI",
    counts={"images": 779, "patients": 779, "normal": 133, "benign": 436, "malignant": 210, "unknown": 0},
    published={"images": 780, "normal": 133, "benign": 437, "malignant": 210},
    findings=(
        Finding("missing file", ("benign/benign (2).png",), "benign/benign (2).png: its mask is missing [sic]"),
        Finding("conflicting labels", ("busi/a", "busi/b", "busi/c"), "benign: a, b; malignant: c"),
        Finding("several lesions", ("busi/benign (195)",), "3 separate parts in 3 mask files"),
        *(Finding("several lesions", (f"busi/benign ({n})",), "2 separate parts in one mask file") for n in (25, 30)),
    ),
)
PATIENTS = {"P": {"benign": 3, "normal": 1}, "Q": {"benign": 2}, "R": {"malignant": 1}}


def shown(table: Table, width: int = 140) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(table: Table, width: int = 140) -> list[list[str]]:
    """The rows of a table without its frame."""
    return [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown(table, width).splitlines() if "│" in line
    ]


def test_counts_stand_beside_the_published_ones() -> None:
    assert cells(counts_table(REPORT)) == [
        ["all", "779", "780", "-1"],
        ["normal", "133", "133", "0"],
        ["benign", "436", "437", "-1"],
        ["malignant", "210", "210", "0"],
    ]


def test_counts_of_patients_where_they_are_named() -> None:
    counts = {"images": 7, "patients": 3, "normal": 1, "benign": 5, "malignant": 1, "unknown": 0}
    report = CheckReport("mine", "mine", counts, {"patients": 2}, PATIENTS)
    assert cells(counts_table(report)) == [
        ["all", "7", "-", "-", "3", "2", "+1"],
        ["normal", "1", "-", "-", "1", "-", "-"],
        ["benign", "5", "-", "-", "2", "-", "-"],
        ["malignant", "1", "-", "-", "1", "-", "-"],
    ]


def test_a_label_that_was_published_is_shown_though_there_is_none_of_it() -> None:
    report = CheckReport("busi", "x", {"images": 1, "patients": 1, "normal": 0, "benign": 1}, {"normal": 133})
    assert ["normal", "0", "133", "-133"] in cells(counts_table(report))


def test_kinds_say_how_many_what_is_done_and_which_come_first() -> None:
    assert cells(kinds_table(REPORT)) == [
        ["missing file !", "1", "restore it, or remove the image", "benign/benign (2).png"],
        ["conflicting labels", "1 (3 images)", "dropped, unless corrections say which is right", "a = b = c"],
        ["several lesions", "3", "kept: one label map holds them all", "benign (195), benign (25), ..."],
    ]


def test_what_has_to_be_mended_is_set_apart_and_explained() -> None:
    text = shown(kinds_table(REPORT))
    assert text.count("├") == 1
    assert "! other commands stop here until it is mended" in text
    harmless = shown(kinds_table(replace(REPORT, findings=REPORT.findings[1:])))
    assert "!" not in harmless
    assert "├" not in harmless


@pytest.mark.parametrize("width", [80, 100, 140])
def test_kinds_fit_the_terminal_and_no_word_is_lost(width: int) -> None:
    lines = shown(kinds_table(REPORT), width).splitlines()
    assert max(map(len, lines)) <= width
    rows = cells(kinds_table(REPORT), width)
    assert [row[0] for row in rows if row[0]] == ["missing file !", "conflicting labels", "several lesions"]
    assert "dropped, unless corrections say which is right" in " ".join(row[2] for row in rows)


def test_an_example_that_is_too_long_alone_is_shown_whole() -> None:
    ids = tuple(f"busi/benign ({number})" for number in range(100, 106))
    report = replace(REPORT, findings=(Finding("near-duplicates", ids, ""), Finding("near-duplicates", ids, "")))
    ((*_, first),) = cells(kinds_table(report), 200)
    assert first == " = ".join(f"benign ({number})" for number in range(100, 106)) + ", ..."


def test_a_check_is_printed_with_its_details_only_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    print_check(REPORT)
    short = capsys.readouterr().out
    print_check(REPORT, details=True)
    whole = capsys.readouterr().out
    assert short.startswith("busi: data/[copy] BUSI\n")
    assert "It names no patients: each image counts as one, near-duplicates together." in short
    assert short.splitlines()[-1] == "Every finding: with --details; as JSON: with --json, or --out FILE."
    assert whole.splitlines()[-10:] == [
        "missing file: 1",
        "  benign/benign (2).png: its mask is missing [sic]",
        "",
        "conflicting labels: 1",
        "  busi/a, busi/b, busi/c: benign: a, b; malignant: c",
        "",
        "several lesions: 3",
        "  busi/benign (195): 3 separate parts in 3 mask files",
        "  busi/benign (25): 2 separate parts in one mask file",
        "  busi/benign (30): 2 separate parts in one mask file",
    ]


def test_how_many_images_patients_have(capsys: pytest.CaptureFixture[str]) -> None:
    print_check(CheckReport("mine", "mine", {"images": 7, "patients": 3}, {}, PATIENTS))
    assert "Each patient has 1 to 4 images, the median 2." in capsys.readouterr().out


def test_a_check_without_findings_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_check(CheckReport("mine", "mine", {"images": 3, "patients": 3}))
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing was found wrong."
