"""Out of memory: every way in which it is said is known, nothing else is taken for it, and nothing stays behind."""

import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from episodes.errors import UserError
from fewshot.devices import NotEnoughMemoryError, is_out_of_memory, within_memory
from tests.fewshot.scarce_memory import ERRORS, torch_error


@pytest.mark.parametrize("fail", ERRORS.values(), ids=ERRORS)
def test_what_torch_and_numpy_say_is_known(fail: Callable[[], None]) -> None:
    with pytest.raises(NotEnoughMemoryError, match=r"^out of memory: cpu, a test; set a smaller image_size"):
        within_memory(fail, "cpu, a test")


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 8.00 GB)",
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 byte",
        "std::bad_alloc",
    ],
)
def test_messages_of_other_devices_and_libraries_are_known(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("The size of tensor a (3) must match"), ValueError("empty mask"), KeyboardInterrupt()],
    ids=["shapes", "value", "interrupt"],
)
def test_other_errors_are_raised_as_they_are(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as found:
        within_memory(fail, "a test")
    assert found.value is error


def test_what_is_computed_is_returned() -> None:
    assert within_memory(lambda: None, "a test") is None
    assert within_memory(lambda: [1], "a test") == [1]


def test_it_is_an_error_that_a_user_reads() -> None:
    assert issubclass(NotEnoughMemoryError, UserError)


def test_nothing_of_a_failed_computation_is_held() -> None:
    """A graph is held by the frames in an error's traceback: the next, smaller attempt would find no room."""
    held: list[weakref.ref[object]] = []

    def fail() -> None:
        weight, pixels = torch.ones(1000, requires_grad=True), np.zeros(1000)
        product = weight * 2
        held.extend(map(weakref.ref, (weight, product, pixels)))
        torch_error()

    with pytest.raises(NotEnoughMemoryError) as found:
        within_memory(fail, "a test")
    assert len(held) == 3
    assert all(reference() is None for reference in held)
    assert found.value.__context__ is None
    assert found.value.__cause__ is None
