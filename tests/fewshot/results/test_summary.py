"""From per-query rows to the rows of a report: every number worked out by hand."""

import math
import random

import numpy as np
import pytest

from episodes.scoring.statistics import crossed_bootstrap
from fewshot.results.comparison import compare
from fewshot.results.index import ResultKey
from fewshot.results.summary import MethodResult, summarise, without_nan
from tests.fewshot.made_results import FLOOR, NAN, ORACLE, normal, scored, table

# Two draws; q2 is in the second alone, since its patient lent the first draw an image of another kind.
TWO_DRAWS = [
    scored("q1", 0.8, hd95=10.0, detected=1.0),
    scored("q3", 0.4, hd95=30.0, detected=0.0),
    normal("n1", 1.0, 0.02),
    normal("n2", 0.0, 0.0),
    scored("q1", 0.6, draw=1, hd95=20.0, detected=1.0),
    scored("q2", 0.2, draw=1, hd95=60.0, detected=0.0),
    scored("q3", 0.0, draw=1, hd95=90.0, detected=0.0),
    normal("n1", 0.0, 0.0, draw=1),
    normal("n2", 0.0, 0.0, draw=1),
]
ZERO_SHOT = [
    *(scored(query, 0.5, "B", shot=0, draw=-1) for query in ("q1", "q2", "q3")),
    normal("n1", 1.0, 0.1, method="B", shot=0, draw=-1),
]


def only(rows: list[MethodResult]) -> MethodResult:
    assert len(rows) == 1
    return rows[0]


# One row


def test_scores_are_averaged_over_draws_and_then_over_queries() -> None:
    row = only(summarise(table(*TWO_DRAWS), ["ours"]))
    # q1: (0.8 + 0.6) / 2, q2: 0.2, q3: (0.4 + 0) / 2
    assert row.dice.estimate == pytest.approx((0.7 + 0.2 + 0.2) / 3)
    assert row.scores["hd95"] == pytest.approx((15 + 60 + 60) / 3)
    assert row.scores["detected"] == pytest.approx((1 + 0 + 0) / 3)
    assert row.scores["iou"] == pytest.approx(row.dice.estimate)
    assert (row.n_lesion, row.n_normal) == (3, 2)


def test_normal_images_count_in_their_own_scores_alone() -> None:
    row = only(summarise(table(*TWO_DRAWS), ["ours"]))
    assert row.scores["false_positive"] == pytest.approx((0.5 + 0) / 2)
    assert row.scores["false_positive_area"] == pytest.approx((0.01 + 0) / 2)
    without = only(summarise(table(*(row for row in TWO_DRAWS if row["lesion"])), ["ours"]))
    assert without.dice == row.dice
    assert without.n_normal == 0
    assert math.isnan(without.scores["false_positive"])
    assert math.isnan(without.scores["false_positive_area"])


def test_the_interval_is_the_crossed_bootstrap_s() -> None:
    row = only(summarise(table(*TWO_DRAWS), ["ours"]))
    values = np.array([[0.8, NAN, 0.4], [0.6, 0.2, 0.0]])
    assert row.dice == crossed_bootstrap(values, ["p1", "p1", "p2"], bounds=(0, 1))


def test_patients_count_once_each_in_their_own_mean() -> None:
    row = only(summarise(table(*TWO_DRAWS), ["ours"]))
    # p1: (0.7 + 0.2) / 2; p2: 0.2
    assert row.patient_dice.estimate == pytest.approx((0.45 + 0.2) / 2)


def test_what_is_known_of_a_row_is_kept() -> None:
    facts = {"kind": "fine-tuned", "model": "unet", "trained_on": "sources", "control_of": "B", "control": "swapped"}
    row = only(summarise(table(*(row | facts for row in TWO_DRAWS)), ["ours"]))
    assert {name: getattr(row, name) for name in facts} == facts
    assert row.key == ResultKey("ours", "A", 1)


@pytest.mark.parametrize(
    ("facts", "role"),
    [
        ({}, "method"),
        (FLOOR, "floor"),
        (ORACLE, "oracle"),
        ({"control": "emptied", "control_of": "A"}, "control"),
        (ORACLE | {"control": "emptied"}, "control"),
    ],
)
def test_a_rows_role_follows_from_what_is_known_of_it(facts: dict[str, str], role: str) -> None:
    other = [row | {"method": "B"} for row in TWO_DRAWS]
    rows = summarise(table(*other, *(row | facts for row in TWO_DRAWS)), ["ours"])
    assert only([row for row in rows if row.method == "A"]).role == role


def test_where_nothing_is_trained_on_sources_what_is_trained_on_the_target_is_a_method() -> None:
    floor = [row | FLOOR | {"method": "B"} for row in TWO_DRAWS]
    rows = summarise(table(*floor, *(row | ORACLE for row in TWO_DRAWS)), ["ours"])
    assert {row.method: row.role for row in rows} == {"A": "method", "B": "floor"}


def test_millimetres_are_averaged_over_the_images_whose_pixels_have_a_size() -> None:
    known = [row | ({"hd95_mm": 3.0} if row["query"] == "q1" else {}) for row in TWO_DRAWS]
    row = only(summarise(table(*known), ["ours"]))
    assert row.scores["hd95_mm"] == 3.0
    assert math.isnan(row.scores["nsd_mm"])


def test_training_seeds_are_averaged_and_their_spread_is_shown() -> None:
    seeds = [
        row | {"seed": seed, "dice": row["dice"] + shift} for seed, shift in ((0, 0), (1, 0.1)) for row in TWO_DRAWS
    ]
    row = only(summarise(table(*seeds), ["ours"]))
    first = (0.7 + 0.2 + 0.2) / 3
    assert row.dice.estimate == pytest.approx(first + 0.05)
    assert row.seed_means == pytest.approx({0: first, 1: first + 0.1})
    assert row.seed_spread == pytest.approx(0.1 / math.sqrt(2))  # the standard deviation of two values 0.1 apart
    values = np.array([[0.85, NAN, 0.45], [0.65, 0.25, 0.05]])
    expected = crossed_bootstrap(values, ["p1", "p1", "p2"], bounds=(0, 1))
    assert (row.dice.low, row.dice.high) == pytest.approx((expected.low, expected.high))


def test_a_single_seed_has_no_spread() -> None:
    row = only(summarise(table(*TWO_DRAWS), ["ours"]))
    assert math.isnan(row.seed_spread)
    assert list(row.seed_means) == [0]


def test_the_order_of_the_results_does_not_matter() -> None:
    shuffled = [*TWO_DRAWS, *ZERO_SHOT]
    random.Random(3).shuffle(shuffled)  # noqa: S311
    assert repr(summarise(table(*shuffled), ["ours"])) == repr(summarise(table(*TWO_DRAWS, *ZERO_SHOT), ["ours"]))


# All rows


def test_rows_are_sorted_by_target_shots_and_dice() -> None:
    rows = [
        scored("q1", 0.3, "worse", shot=1),
        scored("q1", 0.9, "better", shot=5),
        scored("q1", 0.6, "better", shot=1),
        scored("q1", 0.1, "zero", shot=0, draw=-1),
        scored("q1", 0.2, "zero", shot=0, draw=-1, target="first"),
    ]
    found = [(row.target, row.shot, row.method) for row in summarise(table(*rows), ["first", "ours"])]
    assert found == [
        ("first", 0, "zero"),
        ("ours", 0, "zero"),
        ("ours", 1, "better"),
        ("ours", 1, "worse"),
        ("ours", 5, "better"),
    ]


def test_what_has_no_dice_comes_last() -> None:
    rows = [
        *(normal("n1", 0.0, 0.0, method=method) for method in ("b", "a")),
        scored("q1", 0.0, "zero"),
        scored("q1", 0.5, "half"),
    ]
    assert [row.method for row in summarise(table(*rows), ["ours"])] == ["half", "zero", "a", "b"]


# Comparing two rows


def test_a_row_without_draws_is_compared_with_every_draw() -> None:
    results = table(*TWO_DRAWS, *ZERO_SHOT)
    zero, one = summarise(results, ["ours"])
    # q1: 0.7 - 0.5, q2 and q3: 0.2 - 0.5
    assert compare(results, one, zero).interval.estimate == pytest.approx((0.2 - 0.3 - 0.3) / 3)
    assert compare(results, zero, one).interval.estimate == pytest.approx((0.3 + 0.3 - 0.2) / 3)


def test_rows_are_compared_on_the_queries_and_draws_they_share() -> None:
    more = [row | {"method": "C", "dice": 1.0} for row in TWO_DRAWS if (row["query"], row["draw"]) != ("q3", 0)]
    more.append(scored("q9", 0.0, "C"))
    results = table(*TWO_DRAWS, *more)
    first, second = (next(row for row in summarise(results, ["ours"]) if row.method == name) for name in "CA")
    # q1: 1 - 0.7; q2: 1 - 0.2; q3 in the second draw alone: 1 - 0; q9 not at all
    assert compare(results, first, second).interval.estimate == pytest.approx((0.3 + 0.8 + 1) / 3)


def test_rows_are_compared_on_draws_of_the_same_number() -> None:
    first = [scored("q1", dice, draw=draw) for draw, dice in ((0, 0.1), (1, 0.5), (2, 0.9))]
    second = [scored("q1", dice, "C", draw=draw) for draw, dice in ((1, 0.4), (2, 0.6), (3, 0.0))]
    results = table(*first, *second)
    rows = {row.method: row for row in summarise(results, ["ours"])}
    # draws 1 and 2: 0.5 - 0.4 and 0.9 - 0.6
    assert compare(results, rows["A"], rows["C"]).interval.estimate == pytest.approx(0.2)


def test_a_paired_difference_is_surer_than_the_scores_themselves() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0.2, 0.8, 30)
    rows = [
        scored(f"x{i}", value + gain, method, draw=draw)
        for i, value in enumerate(hardness)
        for draw in (0, 1)
        for method, gain in (("A", 0.1), ("C", 0.0))
    ]
    results = table(*rows)
    better, worse = summarise(results, ["ours"])
    assert better.dice.low < worse.dice.high  # the intervals overlap
    difference = compare(results, better, worse)
    assert difference.interval.low == pytest.approx(0.1)
    assert difference.p_value < 0.01


def test_json_has_no_nan() -> None:
    assert without_nan({"a": [NAN, 1.0, (NAN,)], "b": {"c": NAN, "d": "NaN"}}) == {
        "a": [None, 1.0, [None]],
        "b": {"c": None, "d": "NaN"},
    }
