"""Holm's adjustment against values worked by hand, its definition, and what it may never do."""

from math import isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.scoring.statistics import holm

p_values = st.lists(st.floats(0, 1), max_size=8)


def test_each_is_multiplied_by_how_many_are_left() -> None:
    """In order 0.005, 0.01, 0.03, 0.04: times 4, 3, 2 and 1; the last may not fall below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_one_comparison_stays_as_it_is() -> None:
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_none_exceeds_1() -> None:
    assert holm([0.6, 0.7, 0.9]) == [1, 1, 1]


def test_what_could_not_be_tested_does_not_count() -> None:
    adjusted = holm([nan, 0.02, nan, 0.01])
    assert [isnan(value) for value in adjusted] == [True, False, True, False]
    assert (adjusted[1], adjusted[3]) == (0.02, 0.02)
    assert all(map(isnan, holm([nan, nan])))


@given(p_values)
def test_it_is_the_largest_product_up_to_each_rank(values: list[float]) -> None:
    """The definition: over all that are no larger, the maximum of each times how many are at least as large."""
    expected = [
        min(1.0, max(small * sum(other >= small for other in values) for small in values if small <= value))
        for value in values
    ]
    assert holm(values) == pytest.approx(expected)


@given(p_values)
def test_it_lies_between_the_raw_value_and_bonferroni_s(values: list[float]) -> None:
    for value, adjusted in zip(values, holm(values), strict=True):
        assert value <= adjusted <= min(1.0, len(values) * value)


@given(p_values)
def test_smaller_p_values_stay_smaller(values: list[float]) -> None:
    adjusted = [value for _, value in sorted(zip(values, holm(values), strict=True))]
    assert adjusted == sorted(adjusted)


@given(p_values.flatmap(lambda values: st.tuples(st.just(values), st.permutations(range(len(values))))))
def test_the_order_does_not_matter(case: tuple[list[float], list[int]]) -> None:
    values, order = case
    adjusted = holm(values)
    assert holm([values[place] for place in order]) == [adjusted[place] for place in order]


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_what_is_no_p_value_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=f"p-values must lie between 0 and 1, not {value}"):
        holm([0.5, value])
