"""Batches that are halved when memory runs out, and stay small."""

import logging
from collections.abc import Callable, Sequence
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.devices import Batching, NotEnoughMemoryError
from tests.fewshot.scarce_memory import ERRORS, Scarce

CPU = torch.device("cpu")


def squares(scarce: Scarce) -> Callable[[Sequence[int]], list[int]]:
    def compute(items: Sequence[int]) -> list[int]:
        scarce.ask(len(items))
        return [item**2 for item in items]

    return compute


def test_whole_batches_where_memory_suffices() -> None:
    scarce = Scarce(4)
    found = list(Batching(CPU, 4).over(range(10), squares(scarce)))
    assert found == [([0, 1, 2, 3], [0, 1, 4, 9]), ([4, 5, 6, 7], [16, 25, 36, 49]), ([8, 9], [64, 81])]
    assert scarce.tried == [4, 4, 2]


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_batch_is_halved_until_it_fits_and_the_size_is_kept(
    error: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    scarce, batching = Scarce(2, error), Batching(CPU, 8)
    with caplog.at_level(logging.WARNING):
        found = list(batching.over(range(5), squares(scarce)))
    assert found == [([0, 1], [0, 1]), ([2, 3], [4, 9]), ([4], [16])]
    assert scarce.tried == [5, 2, 2, 1]  # half of what was tried, not of what would have been allowed
    assert batching.size == 2
    assert caplog.messages == ["cpu: out of memory with 5 images at once; going on with 2"]
    list(batching.over(range(4), squares(scarce)))
    assert scarce.tried[4:] == [2, 2]


def test_memory_may_run_out_midway(caplog: pytest.LogCaptureFixture) -> None:
    scarce = Scarce(4)
    found = []
    for batch, _ in Batching(CPU, 4).over(range(11), squares(scarce)):
        found.append(batch)
        scarce.room = 1 if len(found) == 2 else scarce.room
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8], [9], [10]]
    assert caplog.messages == ["cpu: out of memory with 3 images at once; going on with 1"]


def test_no_room_for_a_single_item_is_an_error() -> None:
    with pytest.raises(NotEnoughMemoryError, match=r"cpu, one image at a time; set a smaller image_size"):
        list(Batching(CPU, 4).over(range(4), squares(Scarce(0))))


def test_errors_of_who_takes_the_results_are_their_own() -> None:
    results = Batching(CPU, 4).over(range(8), squares(Scarce(4)))
    next(results)
    with pytest.raises(MemoryError):
        results.throw(MemoryError())  # type: ignore[attr-defined]


@given(n_items=st.integers(0, 60), size=st.integers(1, 40), rooms=st.lists(st.integers(1, 40), min_size=1))
def test_every_item_is_computed_once_and_in_order(n_items: int, size: int, rooms: list[int]) -> None:
    """However memory comes and goes, as long as there is room for one."""
    left = list(rooms)

    def compute(items: Sequence[int]) -> list[int]:
        if len(items) > (left.pop() if left else 1):
            raise MemoryError
        return list(items)

    with patch("gc.collect"):  # which takes half a second, among all that a test has imported
        found = list(Batching(CPU, size).over(range(n_items), compute))
    assert [item for _, computed in found for item in computed] == list(range(n_items))
    assert all(batch == computed and 1 <= len(batch) <= size for batch, computed in found)
    sizes = [len(batch) for batch, _ in found[:-1]]
    assert sizes == sorted(sizes, reverse=True)
