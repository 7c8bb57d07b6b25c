"""What is recommended, and in which words."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fewshot.report.collect import answers
from fewshot.report.content import Answer
from fewshot.report.sentences import headline
from fewshot.results.comparison import compare
from fewshot.results.index import ResultsIndex
from fewshot.results.summary import MethodResult, summarise
from tests.fewshot.made_results import FLOOR, ORACLE, normal, scored, table

INTERVAL = r"\[-?\d\.\d\d, \d\.\d\d\]"


def lesions(method: str, shot: int, dice: float, noise: float = 0.01, **facts: Any) -> list[dict[str, Any]]:
    """Twenty patients; without support sets there are no draws."""
    rng = np.random.default_rng(sum(map(ord, method)) + shot)
    return [
        scored(f"x{patient}", dice + noise * rng.normal(), method, shot, draw, **facts)
        for draw in (range(3) if shot else [-1])
        for patient in range(20)
    ]


def found(*parts: list[dict[str, Any]]) -> tuple[list[Answer], list[MethodResult], pa.Table]:
    results = table(*(row for part in parts for row in part))
    index = ResultsIndex(results)
    rows = summarise(index, index.targets)
    return answers(index, rows), rows, results


def rival(answer: Answer) -> MethodResult | None:
    return None if answer.lead is None else answer.lead.other


def without(answer: Answer) -> MethodResult | None:
    return None if answer.gain is None else answer.gain.other


def test_the_answer_names_the_best_the_next_and_what_annotating_brings() -> None:
    (zero, five), rows, results = found(
        lesions("U-Net", 0, 0.70), lesions("U-Net fine-tuned", 5, 0.80), lesions("PANet", 5, 0.65)
    )
    by_name = {row.method: row for row in rows}
    best, other, unet = (by_name[name] for name in ("U-Net fine-tuned", "PANet", "U-Net"))
    assert (five.shot, five.best, rival(five), without(five)) == (5, best, other, unet)
    assert five.lead is not None
    assert five.lead.interval.estimate == pytest.approx(compare(results, best, other).interval.estimate)
    assert five.gain is not None
    assert five.gain.interval.estimate == pytest.approx(compare(results, best, unet).interval.estimate)
    assert re.fullmatch(
        rf"With 5 annotated images, U-Net fine-tuned gives 0\.80 lesion Dice {INTERVAL} on ours\."
        rf" The next best method, PANet, is 0\.15 lower {INTERVAL}: a clear difference\."
        rf" Without any annotated image, U-Net gives 0\.70; the 5 images bring 0\.10 {INTERVAL}, a clear gain\.",
        five.sentence,
    )
    assert (zero.best, zero.lead, zero.gain) == (unet, None, None)
    assert re.fullmatch(
        rf"Without any annotated image, U-Net gives 0\.70 lesion Dice {INTERVAL} on ours\.", zero.sentence
    )


def test_what_may_be_chance_is_called_so() -> None:
    (_, one), *_ = found(lesions("U-Net", 0, 0.6, 0.2), lesions("A", 1, 0.62, 0.2), lesions("B", 1, 0.61, 0.2))
    assert one.best.shot == 1
    assert ": this may be chance. Without" in one.sentence
    assert re.search(rf"the image brings -?0\.\d\d {INTERVAL}, which may be chance\.$", one.sentence)


def test_images_that_bring_nothing_are_said_to() -> None:
    (_, five), rows, _ = found(lesions("U-Net", 0, 0.7), lesions("PANet", 5, 0.6), lesions("other", 0, 0.65))
    assert (five.best.method, rival(five), without(five)) == ("U-Net", rows[-1], None)
    assert re.fullmatch(
        r"On ours, your 5 annotated images bring nothing measurable: use U-Net as it is\."
        rf" It gives 0\.70 lesion Dice {INTERVAL} without any\."
        rf" The best that uses them, PANet, is 0\.10 lower {INTERVAL}: a clear difference\.",
        five.sentence,
    )


def test_a_method_is_compared_with_itself_where_images_do_it_harm() -> None:
    (_, one), rows, _ = found(lesions("MAML", 0, 0.7), lesions("MAML", 1, 0.6))
    assert (one.best, rival(one)) == (rows[0], rows[1])
    assert one.sentence.startswith("On ours, your annotated image brings nothing measurable: use MAML as it is.")
    assert "With it, MAML is 0.10 lower" in one.sentence


def test_fewer_images_than_there_are_may_be_the_answer() -> None:
    (_, five), rows, _ = found(lesions("A", 1, 0.7), lesions("A", 5, 0.6), lesions("B", 5, 0.5))
    assert five.best == rows[0]
    assert re.match(
        rf"With 5 annotated images, A gives 0\.70 lesion Dice {INTERVAL} on ours, using only 1 of them\.",
        five.sentence,
    )
    assert five.lead is not None
    assert five.lead.other.method == "B"


@pytest.mark.parametrize("facts", [ORACLE, {"control": "swapped", "control_of": "A"}, FLOOR])
def test_oracles_controls_and_floors_are_never_the_answer(facts: dict[str, Any]) -> None:
    (one,), rows, _ = found(lesions("A", 1, 0.5), lesions("other", 1, 0.9, **facts))
    assert rows[0].method == "other"
    assert (one.best.method, one.lead) == ("A", None)
    named = "But other, which does not look at the image, is 0.40 higher"
    assert one.sentence.replace(named, "").count("other") == 0
    assert (named in one.sentence) == (rows[0].role == "floor")


def test_a_floor_is_the_answer_where_there_is_nothing_else() -> None:
    (zero,), *_ = found(lesions("empty", 0, 0.1, **FLOOR), lesions("control", 0, 0.9, control="swapped"))
    assert zero.best.method == "empty"
    (one,), *_ = found(lesions("empty", 0, 0.1, **FLOOR), lesions("A", 1, 0.5))
    assert (one.shot, one.gain) == (1, None)


def test_one_patient_and_draw_give_no_interval() -> None:
    (zero, one), *_ = found([scored("q1", 0.5, "U-Net", 0, -1)], [scored("q1", 0.7)], [scored("q1", 0.6, "B")])
    assert zero.sentence == "Without any annotated image, U-Net gives 0.50 lesion Dice on ours."
    assert one.sentence == (
        "With 1 annotated image, A gives 0.70 lesion Dice on ours."
        " The next best method, B, is 0.10 lower: whether by chance cannot be told from so few patients."
        " Without any annotated image, U-Net gives 0.50; the image brings 0.20, and whether by chance cannot be told"
        " from so few patients."
    )


def test_without_a_lesion_there_is_no_answer() -> None:
    none, *_ = found([normal("n1", 0.0, 0.0)])
    assert none == []
    assert headline([none]) == "Nothing could be scored: there is no image with a lesion among the queries."


def test_equals_go_to_the_one_that_needs_fewer_images() -> None:
    (_, five), *_ = found(lesions("A", 1, 0.5, 0), lesions("A", 5, 0.5, 0))
    assert five.best.shot == 1


# The headline


def several(**dice: tuple[float, float]) -> tuple[str, list[list[Answer]]]:
    """Two methods with 5 images each on some targets; `dice` is (A, B) by target."""
    rows = [
        row
        for target, both in dice.items()
        for method, value in zip("AB", both, strict=True)
        for row in lesions(method, 5, value, target=target)
    ]
    index = ResultsIndex(table(*rows))
    summary = summarise(index, index.targets)
    by_target = [answers(index, [row for row in summary if row.target == target]) for target in index.targets]
    return headline(by_target), by_target


def test_the_headline_of_one_target_is_its_answer_without_the_last_clause() -> None:
    (_, five), *_ = found(lesions("U-Net", 0, 0.7), lesions("A", 5, 0.8), lesions("B", 5, 0.6))
    said = headline([[five]])
    assert five.sentence.startswith(said + " Without any annotated image")


def test_the_headline_of_several_targets_is_the_best_on_average() -> None:
    said, by_target = several(one=(0.8, 0.7), two=(0.8, 0.7), three=(0.2, 0.7))
    assert [found[-1].best.method for found in by_target] == ["A", "B", "A"]  # by name: one, three, two
    assert said == (
        "With 5 annotated images, B has the highest lesion Dice on average over 3 datasets, 0.70."
        " It leads on 1 of them, clearly ahead of every other method there."
    )


@pytest.mark.parametrize(
    ("dice", "end"),
    [
        (
            {"one": (0.9, 0.7), "two": (0.6, 0.5)},
            "datasets, 0.75. It leads on all of them, clearly ahead of every other method there.",
        ),
        (
            {"x": (0.9, 0.7), "y": (0.9, 0.7), "z": (0.9, 0.8995)},
            "It leads on all of them, clearly ahead of every other method on 2.",
        ),
        (dict.fromkeys(("x", "y"), (0.9, 0.8995)), "of them, nowhere clearly ahead of every other method."),
    ],
)
def test_the_headline_says_on_how_many_targets_it_is_best(dice: dict[str, tuple[float, float]], end: str) -> None:
    assert several(**dice)[0].endswith(end)
