"""Rows beside a reference and beside themselves at K = 0, by hand."""

import pytest

from episodes.errors import UserError
from episodes.scoring.statistics import holm
from fewshot.report.exports import differences_table
from fewshot.results.comparison import compare_rows
from fewshot.results.summary import summarise
from tests.fewshot.made_results import scored, table

QUERIES = [f"x{number}" for number in range(6)]
# Six patients; what is reference scores 0.5 everywhere, the other gains 0.1 from one image and 0.3 from five.
CONTENT = table(
    *[scored(query, 0.5, method="reference", shot=1) for query in QUERIES],
    *[scored(query, 0.5, method="ours", shot=0, draw=-1) for query in QUERIES],
    *[scored(query, 0.6, method="ours", shot=1) for query in QUERIES],
    *[scored(query, 0.8, method="ours", shot=5) for query in QUERIES],
)
ROWS = summarise(CONTENT, ["ours"])


def test_rows_are_compared_at_as_many_shots_and_with_themselves_at_none() -> None:
    compared = {(one.row.method, one.row.shot): one for one in compare_rows(CONTENT, ROWS, "ours", "reference")}
    one_shot = compared["ours", 1]
    assert one_shot.to_reference is not None
    assert one_shot.to_zero is not None
    assert one_shot.to_reference.difference.interval.estimate == pytest.approx(0.1)
    assert one_shot.to_zero.difference.interval.estimate == pytest.approx(0.1)
    five_shots = compared["ours", 5]
    assert five_shots.to_reference is None  # the reference was measured neither at 5 nor at 0 shots
    assert five_shots.to_zero is not None
    assert five_shots.to_zero.difference.interval.estimate == pytest.approx(0.3)
    assert compared["reference", 1].to_reference is None
    assert compared["ours", 0].to_zero is None


def test_a_reference_without_shots_stands_beside_every_number_of_shots() -> None:
    content = table(
        *[scored(query, 0.7, method="zero-shot", shot=0, draw=-1) for query in ("q1", "q3")],
        *[scored(query, 0.6, method="ours", shot=5) for query in ("q1", "q3")],
    )
    compared = compare_rows(content, summarise(content, ["ours"]), "ours", "zero-shot")
    (found,) = [one.to_reference for one in compared if one.row.method == "ours"]
    assert found is not None
    assert found.difference.interval.estimate == pytest.approx(-0.1)


def test_p_values_are_corrected_over_all_differences_of_the_table() -> None:
    compared = compare_rows(CONTENT, ROWS, "ours", "reference")
    found = [one for both in compared for one in (both.to_reference, both.to_zero) if one is not None]
    assert len(found) == 3
    assert [one.corrected_p for one in found] == holm([one.difference.p_value for one in found])
    assert all(one.corrected_p >= one.difference.p_value for one in found)


def test_an_unknown_reference_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"^against 'theirs': not among the rows of ours; there are ours, reference$"):
        compare_rows(CONTENT, ROWS, "ours", "theirs")


def test_the_table_shows_estimates_intervals_and_p_values() -> None:
    lines = differences_table(compare_rows(CONTENT, ROWS, "ours", "reference"), "reference").markdown().splitlines()
    assert lines[0] == "| K | method | lesion Dice [95 %] | minus reference | minus itself at K = 0 |"
    (five,) = [line for line in lines if line.startswith("| 5 |")]
    assert five.startswith("| 5 | ours | 0.800 [0.800, 0.800] |  | +0.300 [+0.300, +0.300], p < 0.001, corrected ")
    assert ", corrected " in five
