"""How much there is of a mask, how sure a model is of it, and what is flagged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewshot.predict.results import MaskFacts, mask_facts, warnings_of

PROBABILITY = np.array([[0.9, 0.7, 0.1, 0.0], [0.2, 0.0, 0.0, 0.6]], np.float32)


def test_what_is_said_of_a_mask_by_hand() -> None:
    facts = mask_facts(PROBABILITY > 0.5, PROBABILITY)
    assert (facts.area, facts.coverage, facts.components) == (3, 3 / 8, 2)
    assert facts.lesion_confidence == pytest.approx((0.9 + 0.7 + 0.6) / 3)
    assert facts.mean_confidence == pytest.approx((0.9 + 0.7 + 0.6 + 0.9 + 1 + 0.8 + 1 + 1) / 8)


def test_parts_that_touch_at_a_corner_are_one() -> None:
    mask = np.eye(4, dtype=bool)
    assert mask_facts(mask, mask.astype(np.float32)).components == 1


def test_an_empty_mask_has_no_confidence_in_a_lesion() -> None:
    facts = mask_facts(np.zeros((2, 2), bool), np.full((2, 2), 0.25, np.float32))
    assert (facts.area, facts.components, facts.mean_confidence) == (0, 0, 0.75)
    assert np.isnan(facts.lesion_confidence)


@given(arrays(np.float32, (5, 6), elements=st.floats(0, 1, width=32)))
def test_what_is_cut_at_a_half_is_at_least_half_sure(probability: np.ndarray) -> None:
    mask = probability > 0.5
    facts = mask_facts(mask, probability)
    assert 0.5 <= facts.mean_confidence <= 1
    assert not mask.any() or 0.5 < facts.lesion_confidence <= 1
    assert facts.components <= facts.area == round(facts.coverage * mask.size)


def facts_of(area: int, confidence: float) -> MaskFacts:
    return MaskFacts(area, area / 100, min(area, 1), 0.99, confidence)


@pytest.mark.parametrize(
    ("area", "confidence", "novelty", "flags"),
    [
        (9, 0.95, None, []),
        (9, 0.95, 1.0, []),
        (9, 0.849, 0.3, ["unsure"]),
        (9, 0.851, 1.01, ["unlike"]),
        (9, 0.6, 2.0, ["unsure", "unlike"]),
        (0, float("nan"), None, ["empty"]),
        (0, float("nan"), 3.0, ["empty", "unlike"]),
    ],
)
def test_what_is_flagged(area: int, confidence: float, novelty: float | None, flags: list[str]) -> None:
    found = warnings_of(facts_of(area, confidence), novelty)
    assert list(found) == flags
    assert all(found.values())


def test_a_flag_says_why_in_plain_words() -> None:
    assert warnings_of(facts_of(9, 0.62), None)["unsure"] == "the model is only 62% sure of what it marked"
