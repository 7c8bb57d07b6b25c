"""Controls beside what they control, by hand."""

from typing import Any

import pyarrow as pa
import pytest

from episodes.scoring.statistics import Difference, Interval, holm
from fewshot.report.collect import controls_of
from fewshot.report.sentences import describe_control
from fewshot.results.comparison import Comparison
from fewshot.results.summary import summarise
from tests.fewshot.made_results import scored, table

TWO_DRAWS = [
    scored("q1", 0.8),
    scored("q3", 0.4),
    scored("q1", 0.6, draw=1),
    scored("q2", 0.2, draw=1),
    scored("q3", 0.0, draw=1),
]


def with_control(loss: float) -> pa.Table:
    """Six patients in two draws at one shot; the control scores so much less than `A`, give or take 0.01."""
    rows: list[dict[str, Any]] = []
    for number in range(6):
        for draw in (0, 1):
            dice, noise = 0.5 + number / 100, 0.01 * (-1) ** number
            rows.append(scored(f"x{number}", dice, draw=draw))
            shown = {"control": "swapped", "control_of": "A"}
            rows.append(scored(f"x{number}", dice - loss + noise, "c", draw=draw, **shown))
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
    (found,) = controls_of(results, rows, "ours")
    assert found.row.key == ("ours", "A", 1)
    assert (found.other.method, found.other.control) == ("A emptied", "emptied")
    # Half of each query's mean over draws: (0.7 + 0.2 + 0.2) / 2 / 3
    assert found.difference.interval.estimate == pytest.approx(0.55 / 3)
    assert controls_of(results, rows, "theirs") == []


@pytest.mark.parametrize(
    ("loss", "said", "end", "verdict"),
    [
        (0.2, "A falls by 0.20 [", ": it uses them.", "higher"),
        (0.0, "A does not use its support set: it loses 0.00 [-", ".", "alike"),
        (-0.2, "A rises by 0.20 [", ": the right masks do it harm.", "lower"),
    ],
)
def test_a_control_says_whether_the_support_set_is_used(loss: float, said: str, end: str, verdict: str) -> None:
    results = with_control(loss)
    (control,) = controls_of(results, summarise(results, ["ours"]), "ours")
    # The differences of the six patients are the loss plus or minus 0.01, so that the estimate is the loss.
    sentence = describe_control(control)
    assert sentence.startswith(f"With 1 annotated image, {said}")
    assert sentence.endswith(f"] when its supports' masks are swapped{end}")
    assert control.verdict == verdict


def test_one_patient_and_draw_say_nothing_about_a_control() -> None:
    results = table(scored("q1", 0.5), scored("q1", 0.2, "c", control="emptied", control_of="A"))
    (found,) = controls_of(results, summarise(results, ["ours"]), "ours")
    assert describe_control(found) == (
        "With 1 annotated image, whether A uses its support set cannot be told from so few patients."
    )
    assert found.verdict == "unknown"


UNKNOWN = "whether PANet uses its support set cannot be told: it loses "


@pytest.mark.parametrize(
    ("loss", "p", "said"),
    [
        (Interval(0.20, -0.13, 0.53), 0.2, f"{UNKNOWN}0.20 [-0.13, 0.53]"),
        (Interval(0.00, -0.02, 0.02), 0.9, "PANet does not use its support set: it loses 0.00 [-0.02, 0.02]"),
        (Interval(0.00, -0.02, 0.021), 0.9, f"{UNKNOWN}0.00 [-0.02, 0.02]"),
        (Interval(0.05, 0.02, 0.08), 0.05, f"{UNKNOWN}0.05 [0.02, 0.08], p = 0.050 after correction"),
    ],
)
def test_little_evidence_is_not_evidence_of_nothing(loss: Interval, p: float, said: str) -> None:
    emptied = {"control": "emptied", "control_of": "PANet"}
    results = table(scored("q", 0.5, "PANet", shot=5), scored("q", 0.5, "c", shot=5, **emptied))
    row, control = summarise(results, ["ours"])
    sentence = describe_control(Comparison(row, control, Difference(loss, p), p))
    assert sentence == f"With 5 annotated images, {said} when its supports' masks are emptied."


def test_p_values_are_corrected_over_the_controls_of_a_dataset() -> None:
    rows = [
        row
        for name in ("swapped", "emptied")
        for number in range(8)
        for row in (
            scored(f"x{number}", 0.5, draw=0),
            scored(f"x{number}", 0.5 - 0.01 * number, f"A {name}", draw=0, control=name, control_of="A"),
        )
    ]
    results = table(*rows[:16], *(row for row in rows[16:] if row["control"]))
    found = controls_of(results, summarise(results, ["ours"]), "ours")
    assert [one.corrected_p for one in found] == holm([one.difference.p_value for one in found])
