"""Controls beside what they control, by hand."""

from typing import Any

import pyarrow as pa
import pytest

from episodes.scoring.statistics import Difference, Interval
from fewshot.report.collect import controls_of
from fewshot.report.content import Control
from fewshot.report.sentences import describe_control, uses_support
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
    assert (found.target, found.shot, found.method, found.control) == ("ours", 1, "A", "A emptied")
    assert found.masks == "emptied"
    # Half of each query's mean over draws: (0.7 + 0.2 + 0.2) / 2 / 3
    assert found.difference.interval.estimate == pytest.approx(0.55 / 3)
    assert controls_of(results, rows, "theirs") == []


@pytest.mark.parametrize(
    ("loss", "verdict", "used"),
    [
        (0.2, "With 1 annotated image, A falls by 0.20 [", True),
        (0.0, "With 1 annotated image, A does not use its support set: it loses 0.00 [-", False),
        (-0.2, "With 1 annotated image, A does not use its support set: it loses -0.20 [-", False),
    ],
)
def test_a_control_says_whether_the_support_set_is_used(loss: float, verdict: str, used: bool) -> None:
    results = with_control(loss)
    (control,) = controls_of(results, summarise(results, ["ours"]), "ours")
    # The differences of the six patients are the loss plus or minus 0.01, so that the estimate is the loss.
    assert control.sentence.startswith(verdict)
    assert control.sentence.endswith("] when its supports' masks are swapped" + (": it uses them." if used else "."))
    assert uses_support(control) is used


def test_one_patient_and_draw_say_nothing_about_a_control() -> None:
    results = table(scored("q1", 0.5), scored("q1", 0.2, "c", control="emptied", control_of="A"))
    (found,) = controls_of(results, summarise(results, ["ours"]), "ours")
    assert found.sentence == (
        "With 1 annotated image, whether A uses its support set cannot be told from one patient and one draw."
    )
    assert uses_support(found) is None


def test_the_sentence_is_made_from_the_numbers() -> None:
    loss = Difference(Interval(0.034, -0.011, 0.079), 0.2)
    assert describe_control(Control("ours", 5, "PANet", "c", "emptied", loss)) == (
        "With 5 annotated images, PANet does not use its support set: it loses 0.03 [-0.01, 0.08] when its supports'"
        " masks are emptied."
    )
