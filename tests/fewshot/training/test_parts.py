"""Batches in parts: every item once, in order, and as many parts as memory asks for."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.devices import NotEnoughMemoryError
from fewshot.training.batches import batch_size, divided
from fewshot.training.learner import Parts


@given(n_items=st.integers(1, 20), parts=st.integers(1, 25))
def test_parts_hold_every_item_once_and_differ_by_one_at_most(n_items: int, parts: int) -> None:
    batch = {"images": torch.rand(n_items, 3, 2), "labels": torch.arange(n_items)}
    found = list(divided(batch, parts))
    assert len(found) == min(parts, n_items)
    for name, whole in batch.items():
        assert torch.equal(torch.cat([part[name] for part in found]), whole)
    sizes = [batch_size(part) for part in found]
    assert max(sizes) - min(sizes) <= 1


def test_one_part_is_the_batch_itself() -> None:
    batch = {"images": torch.rand(3, 2)}
    (part,) = divided(batch, 1)
    assert part["images"].data_ptr() == batch["images"].data_ptr()


def test_parts_double_up_to_one_item_each(caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts()
    with caplog.at_level(logging.WARNING):
        for expected in (2, 4, 6):
            parts.double("training", 6, 9)
            assert parts == Parts(training=expected, validation=1)
    assert caplog.messages[0] == (
        "training: out of memory at step 10; batches of 6 are computed in 2 parts from here on"
    )
    with pytest.raises(NotEnoughMemoryError, match=r"^training: out of memory at step 10 with one item.*image_size"):
        parts.double("training", 6, 9)
    parts.double("validation", 6, 9)
    assert parts == Parts(training=6, validation=2)
