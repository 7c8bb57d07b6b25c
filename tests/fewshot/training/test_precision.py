"""Which precision `auto` is, and that computing in it is confined to its context."""

import pytest
import torch

from fewshot.training.learner import DTYPES, autocast, resolved_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"), [(False, False, "float32"), (True, False, "bfloat16"), (False, True, "bfloat16")]
)
def test_auto_is_bfloat16_where_a_processor_has_instructions_for_it(
    avx512: bool, amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolved_precision("auto", CPU) == expected


def test_auto_is_whatever_the_processor_here_can_do() -> None:
    assert resolved_precision("auto", CPU) in ("float32", "bfloat16")


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_is_asked_for_bfloat16_that_is_not_emulated(
    native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolved_precision("auto", torch.device("cuda")) == expected


def test_auto_is_float32_on_other_devices() -> None:
    assert resolved_precision("auto", torch.device("mps")) == "float32"


@pytest.mark.parametrize("precision", list(DTYPES))
def test_every_other_precision_is_itself(precision: str) -> None:
    assert resolved_precision(precision, CPU) == precision


@pytest.mark.parametrize(("precision", "dtype"), list(DTYPES.items()))
def test_matrices_are_multiplied_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
