"""What a training computes in: what `auto` leaves open, what is measured of it, remembered and chosen."""

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewshot.config.training import TrainConfig, TrainingConfig
from fewshot.training import precision as module
from fewshot.training.precision import (
    DTYPES,
    Computing,
    autocast,
    choices,
    choose_computing,
    computes_in_bfloat16,
    fastest,
    measured_seconds,
)
from tests.fewshot.small_networks import CPU
from tests.fewshot.training.test_run import train_config

PLAIN, LAST = Computing("float32", False), Computing("float32", True)
NARROW, NARROW_LAST = Computing("bfloat16", False), Computing("bfloat16", True)
ALL = [PLAIN, LAST, NARROW, NARROW_LAST]


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with instructions for bfloat16."""
    monkeypatch.setattr(module, "computes_in_bfloat16", lambda device: True)


@pytest.mark.parametrize(
    ("precision", "channels_last", "expected"),
    [
        ("auto", "auto", ALL),
        ("auto", True, [LAST, NARROW_LAST]),
        ("float32", "auto", [PLAIN, LAST]),
        ("float16", False, [Computing("float16", False)]),
    ],
)
@pytest.mark.usefixtures("native")
def test_only_what_is_left_to_auto_is_open(precision: str, channels_last: object, expected: list[Computing]) -> None:
    config = TrainingConfig.model_validate({"steps": 1, "precision": precision, "channels_last": channels_last})
    assert choices(config, CPU) == expected


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_bfloat16_is_no_choice_where_it_would_be_emulated(
    avx512: bool, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choices(TrainingConfig(steps=1, precision="auto"), CPU) == [PLAIN, NARROW][: 1 + (avx512 or amx)]
    assert not computes_in_bfloat16(torch.device("mps"))


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_for_bfloat16_that_is_not_emulated(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert computes_in_bfloat16(torch.device("cuda")) == native


class Clocked(nn.Module):
    """A network whose loss takes a time that depends on what it is computed in, on a clock that it turns itself."""

    def __init__(self, seconds: dict[Computing, float]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.seconds, self.now, self.items = seconds, [0.0], list[int]()

    def loss(self, images: Tensor) -> dict[str, Tensor]:
        found = self.norm(self.layer(images))
        last = self.layer.weight.is_contiguous(memory_format=torch.channels_last)
        self.items.append(len(images))
        precision = next(name for name, dtype in DTYPES.items() if found.dtype == dtype)
        self.now[0] += self.seconds[Computing(precision, last)] * len(images)
        return {"loss": found.sum()}

    def __deepcopy__(self, memo: object) -> "Clocked":
        copied = Clocked(self.seconds)
        copied.load_state_dict(self.state_dict())
        copied.now, copied.items = self.now, self.items
        return copied


def measured(seconds: dict[Computing, float], n_items: int = 8) -> tuple[dict[Computing, float], Clocked]:
    network = Clocked(seconds)
    found = measured_seconds(network, {"images": torch.rand(n_items, 2, 5, 5)}, ALL, CPU, lambda: network.now[0])
    return found, network


def test_every_choice_is_measured_for_two_seconds_and_the_network_stays() -> None:
    found, network = measured({PLAIN: 0.02, LAST: 0.01, NARROW: 0.03, NARROW_LAST: 0.05})
    assert found == pytest.approx({PLAIN: 0.08, LAST: 0.04, NARROW: 0.12, NARROW_LAST: 0.2})
    assert network.items == [4] * 4 * 5
    assert network.norm.num_batches_tracked == 0
    assert network.layer.weight.grad is None


def test_a_slow_network_is_measured_three_times_each_way() -> None:
    found, network = measured({PLAIN: 2.0, LAST: 3.0, NARROW: 4.0, NARROW_LAST: 5.0}, n_items=2)
    assert found == pytest.approx({PLAIN: 4.0, LAST: 6.0, NARROW: 8.0, NARROW_LAST: 10.0})
    assert network.items == [2] * 4 * 3


def test_what_memory_does_not_suffice_for_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    step = module._step

    def scarce(network: nn.Module, batch: dict[str, Tensor], option: Computing, device: torch.device) -> None:
        if option != NARROW:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(network, batch, option, device)

    monkeypatch.setattr(module, "_step", scarce)
    found = measured_seconds(
        Clocked(dict.fromkeys(ALL, 1.0)), {"images": torch.rand(2, 2, 5, 5)}, ALL, CPU, count().__next__
    )
    assert fastest(found) == NARROW


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ((1.0, 1.0, 1.0, 1.0), PLAIN),
        ((1.02, 1.0, 1.01, 1.0), PLAIN),
        ((1.2, 1.0, 1.5, 1.5), LAST),
        ((1.2, 1.1, 1.0, 0.9), NARROW_LAST),
        ((1.2, 1.1, 0.92, 0.9), NARROW),
        ((float("inf"),) * 4, PLAIN),
    ],
)
def test_the_fastest_is_chosen_and_of_equals_the_plainest(seconds: tuple[float, ...], expected: Computing) -> None:
    assert fastest(dict(zip(ALL, seconds, strict=True))) == expected


# The cache


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[Computing]:
    """What is found fastest, one after the other, removed when it is measured."""
    monkeypatch.setattr(module, "computes_in_bfloat16", lambda device: True)
    found: list[Computing] = []

    def measure(
        network: nn.Module, batch: object, options: list[Computing], device: torch.device
    ) -> dict[Computing, float]:
        best = found.pop(0)
        return {option: 1.0 if option == best else 2.0 for option in options}

    monkeypatch.setattr(module, "measured_seconds", measure)
    return found


def open_config(cache: Path, **train: object) -> TrainConfig:
    config = train_config("unet", precision="auto", channels_last="auto", **train)
    return config.model_copy(update={"cache": cache})


def batch_of(size: int = 8) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"images": torch.zeros(2, 3, size, size)}


def chosen(config: TrainConfig, size: int = 8) -> Computing:
    return choose_computing(config, nn.Linear(1, 1), batch_of(size), CPU)


def test_it_is_measured_once_for_each_machine_network_and_size(
    measurements: list[Computing], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = open_config(tmp_path)
    measurements += [LAST, NARROW, PLAIN, NARROW_LAST]
    with caplog.at_level(logging.INFO):
        assert [chosen(config), chosen(config), chosen(config, 16)] == [LAST, LAST, NARROW]
    assert (
        "computes in float32 channels-last on cpu, 1 thread (float32 2000 ms, float32 channels-last 1000 ms"
        in caplog.text
    )
    monkeypatch.setattr(module, "_processor", lambda: "another")
    assert chosen(config) == PLAIN
    monkeypatch.setattr(torch, "__version__", "another")
    assert chosen(config) == NARROW_LAST
    assert measurements == []
    assert len(list((tmp_path / "precision").iterdir())) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"seconds": {"float32": 1.0}}',
        '{"seconds": 3}',
    ],
)
def test_a_damaged_file_is_measured_and_written_anew(text: str, measurements: list[Computing], tmp_path: Path) -> None:
    config = open_config(tmp_path)
    measurements += [LAST, NARROW]
    chosen(config)
    (file,) = (tmp_path / "precision").iterdir()
    file.write_text(text)
    assert [chosen(config), chosen(config)] == [NARROW, NARROW]
    assert json.loads(file.read_text())["seconds"]["bfloat16"] == 1.0


def test_a_cache_that_cannot_be_written_is_done_without(
    measurements: list[Computing], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file")
    measurements += [LAST, NARROW]
    with caplog.at_level(logging.INFO):
        assert [chosen(open_config(blocked)), chosen(open_config(blocked))] == [LAST, NARROW]
    assert "is not remembered" in caplog.text


def test_of_several_at_once_the_first_measures_and_the_others_wait(
    measurements: list[Computing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, measure = open_config(tmp_path), module.measured_seconds
    measurements += [LAST, NARROW]

    def measure_slowly(*given: Any) -> dict[Computing, float]:
        time.sleep(0.1)
        return measure(*given)

    monkeypatch.setattr(module, "measured_seconds", measure_slowly)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(chosen, [config] * 2)) == [LAST] * 2


def test_what_is_not_open_is_not_measured(measurements: list[Computing], tmp_path: Path) -> None:
    config = train_config("unet", channels_last=True).model_copy(update={"cache": tmp_path})
    assert choose_computing(config, nn.Linear(1, 1), batch_of(), CPU) == LAST
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("precision", "dtype"), list(DTYPES.items()))
def test_matrices_are_multiplied_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
