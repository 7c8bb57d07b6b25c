"""From per-query rows to the table: every number worked out by hand."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from episodes.statistics import Interval, crossed_bootstrap
from fewshot.results import SCHEMA, SCORES
from fewshot.summary import (
    Row,
    answer,
    compare,
    compare_controls,
    judge_control,
    show,
    summarise,
    write_summary,
)

NAN = math.nan
PATIENTS = {"q1": "p1", "q2": "p1", "q3": "p2", "n1": "p3", "n2": "p3"}


def scored(query: str, dice: float, method: str = "A", shot: int = 1, draw: int = 0, **facts: Any) -> dict[str, Any]:
    """A row about a lesion image; a missed lesion scores 0 everywhere, and `dice` stands in for the other scores."""
    row = {
        "target": "ours",
        "method": method,
        "seed": 0,
        "shot": shot,
        "draw": draw,
        "query": query,
        "patient": PATIENTS.get(query, query),
        "label": "benign",
        "lesion": True,
        **dict.fromkeys(SCORES, dice),
        "false_positive": NAN,
        "false_positive_area": NAN,
    }
    return row | facts


def normal(query: str, false_positive: float, area: float, **facts: Any) -> dict[str, Any]:
    found = {"false_positive": false_positive, "false_positive_area": area}
    return scored(query, NAN, **facts) | {"label": "normal", "lesion": False} | found


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


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


def only(rows: list[Row]) -> Row:
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
    assert row.dice == crossed_bootstrap(values, ["p1", "p1", "p2"])


def test_training_seeds_are_averaged_and_their_spread_is_shown() -> None:
    seeds = [
        row | {"seed": seed, "dice": row["dice"] + shift} for seed, shift in ((0, 0), (1, 0.1)) for row in TWO_DRAWS
    ]
    row = only(summarise(table(*seeds), ["ours"]))
    first = (0.7 + 0.2 + 0.2) / 3
    assert row.dice.estimate == pytest.approx(first + 0.05)
    assert row.seed_spread == pytest.approx(0.1 / math.sqrt(2))  # the standard deviation of two values 0.1 apart
    values = np.array([[0.85, NAN, 0.45], [0.65, 0.25, 0.05]])
    expected = crossed_bootstrap(values, ["p1", "p1", "p2"])
    assert (row.dice.low, row.dice.high) == pytest.approx((expected.low, expected.high))


def test_a_single_seed_has_no_spread() -> None:
    assert math.isnan(only(summarise(table(*TWO_DRAWS), ["ours"])).seed_spread)


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


# The answer


def study(gain: float, noise: float = 0.02, shots: tuple[int, ...] = (1, 5)) -> tuple[pa.Table, list[Row]]:
    """Forty patients; with annotated images the best method gains so much on the zero-shot one."""
    rng = np.random.default_rng(1)
    rows = [scored(f"x{i}", 0.5, "U-Net", shot=0, draw=-1) for i in range(40)] + [
        scored(f"x{i}", 0.5 + bonus + noise * rng.standard_normal(), method, shot, draw)
        for i in range(40)
        for draw in range(3)
        for shot in shots
        for method, bonus in (("PANet", gain), ("other", gain - 0.1))
    ]
    results = table(*rows)
    return results, summarise(results, ["ours"])


@pytest.mark.parametrize(
    ("gain", "noise", "verdict"),
    [(0.2, 0.02, "more than"), (-0.2, 0.02, "less than"), (0.01, 0.3, "not clearly different from")],
)
def test_the_answer_names_the_best_and_whether_it_beats_doing_without(gain: float, noise: float, verdict: str) -> None:
    results, rows = study(gain, noise)
    best, rival = next(row for row in rows if row.shot == 5), rows[0]
    difference = compare(results, best, rival)
    assert answer(results, rows, "ours") == (
        f"On ours, with 5 annotated images, 'PANet' is best: lesion Dice {show(best.dice)}. That is {verdict}"
        f" 'U-Net' with no annotated image at all, {show(rival.dice)}: the difference is"
        f" {show(difference.interval, sign=True)}, p = {difference.p_value:.3f}."
    )
    assert difference.interval.estimate == pytest.approx(gain, abs=0.05)


def test_the_answer_with_one_image_and_nothing_to_compare_with() -> None:
    results = table(scored("q1", 0.5), scored("q3", 0.7))
    rows = summarise(results, ["ours"])
    assert answer(results, rows, "ours").startswith("On ours, with 1 annotated image, 'A' is best: lesion Dice 0.600 [")
    assert "That is" not in answer(results, rows, "ours")


def test_the_answer_without_any_annotated_image() -> None:
    results = table(*ZERO_SHOT)
    said = answer(results, summarise(results, ["ours"]), "ours")
    assert said == "On ours, with no annotated image, 'B' is best: lesion Dice 0.500 [0.500, 0.500]."


# Controls


def with_controls(*losses: float) -> pa.Table:
    """Six patients in two draws at one shot; each control scores so much less than `A`, on average over draws."""
    rows = []
    for number in range(6):
        for draw in (0, 1):
            rows.append(scored(f"x{number}", 0.5 + number / 100, "A", draw=draw))
            for place, loss in enumerate(losses):
                shown = {"control": "swapped", "control_of": "A"}
                noise = 0.01 * (-1) ** number
                rows.append(scored(f"x{number}", 0.5 + number / 100 - loss + noise, f"c{place}", draw=draw, **shown))
    return table(*rows)


def test_a_control_is_compared_with_the_row_that_it_is_a_control_of() -> None:
    results = table(
        *TWO_DRAWS,
        *(row | {"shot": 5, "dice": 0.9} for row in TWO_DRAWS),
        *(
            row | {"method": "A emptied", "control": "emptied", "control_of": "A", "dice": row["dice"] / 2}
            for row in TWO_DRAWS
        ),
        *(row | {"method": "alone", "control": "swapped"} for row in TWO_DRAWS),
        *(row | {"target": "theirs"} for row in TWO_DRAWS),
    )
    rows = summarise(results, ["ours", "theirs"])
    (found,) = compare_controls(results, rows, "ours")
    assert (found.target, found.shot, found.method, found.control) == ("ours", 1, "A", "A emptied")
    assert found.masks == "emptied"
    # Half of each query's mean over draws: (0.7 + 0.2 + 0.2) / 2 / 3
    assert found.difference.interval.estimate == pytest.approx(0.55 / 3)
    assert compare_controls(results, rows, "theirs") == []


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (0.2, "'A' falls by 0.200 ["),
        (0.0, "'A' does not use its support set: the loss is +0.000 [-"),
        (-0.2, "'A' does not use its support set: the loss is -0.200 [-"),
    ],
)
def test_a_control_says_whether_the_support_set_is_used(loss: float, verdict: str) -> None:
    results = with_controls(loss)
    (found,) = compare_controls(results, summarise(results, ["ours"]), "ours")
    said = judge_control(found)
    # The differences of the six patients are the loss plus or minus 0.01, so that the estimate is the loss.
    assert said.startswith(verdict)
    assert said.endswith("] with 1 annotated image when its supports' masks are swapped.")
    assert show(found.difference.interval, sign=loss <= 0) in said


def test_one_patient_and_draw_say_nothing_about_a_control() -> None:
    results = table(scored("q1", 0.5), scored("q1", 0.2, "c", control="emptied", control_of="A"))
    (found,) = compare_controls(results, summarise(results, ["ours"]), "ours")
    assert judge_control(found) == "Whether 'A' uses its support set cannot be told from one patient and one draw."


def test_controls_are_never_the_answer() -> None:
    results = with_controls(-0.3, -0.2)  # better than what they control
    rows = summarise(results, ["ours"])
    assert [row.method for row in rows] == ["c0", "c1", "A"]
    without = table(*(row for row in results.to_pylist() if row["control"] is None))
    assert answer(results, rows, "ours") == answer(without, summarise(without, ["ours"]), "ours")
    assert "'A' is best" in answer(results, rows, "ours")


# Intervals


def test_differences_are_shown_with_their_sign() -> None:
    assert show(Interval(0.1, -0.02, 0.2214), sign=True) == "+0.100 [-0.020, +0.221]"


# The file


def test_the_summary_is_strict_json(tmp_path: Path) -> None:
    results = table(*(row for row in [*TWO_DRAWS, *ZERO_SHOT] if row["lesion"]))
    rows = summarise(results, ["ours"])
    path = write_summary(tmp_path, results, rows, ["ours"])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["answers"] == {"ours": answer(results, rows, "ours")}
    assert content["controls"] == []
    zero, one = content["rows"]
    assert (zero["method"], zero["shot"], zero["n_lesion"], zero["n_normal"]) == ("B", 0, 3, 0)
    assert zero["scores"]["false_positive"] is None
    assert zero["seed_spread"] is None
    assert one["dice"]["estimate"] == pytest.approx(1.1 / 3)


def test_the_summary_holds_what_the_controls_say(tmp_path: Path) -> None:
    results = with_controls(0.2)
    rows = summarise(results, ["ours"])
    content = json.loads(write_summary(tmp_path, results, rows, ["ours"]).read_text())
    (found,) = content["controls"]
    assert (found["method"], found["control"], found["masks"], found["shot"]) == ("A", "c0", "swapped", 1)
    assert found["difference"]["interval"]["estimate"] == pytest.approx(0.2)
    assert [(row["method"], row["control"], row["control_of"]) for row in content["rows"]] == [
        ("A", None, None),
        ("c0", "swapped", "A"),
    ]
