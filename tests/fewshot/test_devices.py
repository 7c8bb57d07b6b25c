"""Which device a name stands for, and when there are several processes."""

import pytest
import torch

from fewshot.config.parsing import ConfigError
from fewshot.devices import ALONE, choose_device, joined_processes


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_without_a_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")


def test_auto_takes_each_process_s_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(ConfigError, match=r"^device: 'cuda:99' is not available"):
        choose_device("auto")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:one", ""])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    message = str(caught.value)
    assert message.startswith(f"device: {name!r} is not available (")
    assert message.endswith("; use auto or cpu")
    assert "\n" not in message


@pytest.mark.parametrize("world", [None, "1"])
def test_one_process_joins_nothing(world: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    with joined_processes(torch.device("cpu")) as processes:
        assert processes == ALONE
        assert not torch.distributed.is_initialized()
