"""Weights and logits that are not finite: nothing of them is saved, loaded or taken for a mask."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fewshot.checkpoints
from episodes.errors import UserError
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.api import load
from fewshot.checkpoints import CheckpointError, load_checkpoint, load_network, network_tensors, save_checkpoint
from fewshot.inference.out_of_distribution import load_training_features
from tests.cli.conftest import Fewshot
from tests.cli.test_trust import COMMANDS
from tests.fewshot.small_networks import ENCODER, MODELS, small_network

SEGMENTING = ("predict", "evaluate", "export")


@pytest.fixture
def folder(configs: Path) -> Path:
    """The working folder, with a dataset `mine`."""
    write_folder(generate(PhantomSpec("linear", 4, size=64)), configs / "mine")
    return configs


def saved(path: Path, network: torch.nn.Module, name: str = "unet") -> Path:
    model = MODELS[name].model_dump(mode="json")
    facts = {"encoder": ENCODER.model_dump(mode="json"), "model": model, "image_size": 64}
    save_checkpoint(path, network_tensors(network), facts | {"sources": [], "datasets": {}})
    return path


def damaged(path: Path, monkeypatch: pytest.MonkeyPatch, value: float = np.nan, name: str = "unet") -> Path:
    """A checkpoint of another program, in which a single value is not finite."""
    network = small_network(name)
    with torch.no_grad():
        list(network.parameters())[-1].view(-1)[-1] = value
    with monkeypatch.context() as before:
        before.setattr(fewshot.checkpoints, "first_not_finite", lambda _: None)
        return saved(path, network, name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_nothing_is_saved(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"network.count": torch.tensor([2**31]), "network.a": torch.ones(3), "network.b": torch.ones(2, 2)}
    save_checkpoint(path, {name: tensor.to(dtype) for name, tensor in list(tensors.items())[1:]} | tensors, {})
    kept = path.read_bytes()
    tensors["network.b"] = torch.tensor([[1.0, 1.0], [value, 1.0]]).to(dtype)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: not written, network\.b is not finite.*learning_rate"):
        save_checkpoint(path, tensors, {})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == kept


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["unet", "panet"])
def test_nothing_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, name: str) -> None:
    path = damaged(tmp_path / "a.safetensors", monkeypatch, value, name)
    for read in (load_checkpoint, load_network, load):
        with pytest.raises(CheckpointError, match=r"a\.safetensors: network\.\S+ is not finite"):
            read(path)


@pytest.mark.parametrize("name", ["features", "distances"])
def test_what_is_known_of_the_training_images_is_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tensors = {"familiar.features": torch.eye(4), "familiar.distances": torch.ones(4)}
    tensors[f"familiar.{name}"] = tensors[f"familiar.{name}"] * torch.nan
    with monkeypatch.context() as before:
        before.setattr(fewshot.checkpoints, "first_not_finite", lambda _: None)
        save_checkpoint(tmp_path / "a.safetensors", tensors, {})
    with pytest.raises(CheckpointError, match=rf"a\.safetensors: familiar\.{name} is not finite"):
        load_training_features(tmp_path / "a.safetensors")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_says_which_file_and_tensor(
    fewshot: Fewshot, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    path = damaged(folder / "received.safetensors", monkeypatch)
    ended = fewshot(command, path, *COMMANDS[command])
    assert ended.status == 1, ended.err
    assert "received.safetensors: network." in ended.message
    assert "is not finite" in ended.message
    assert "fault of the program" not in ended.message
    assert not list(folder.glob("out*"))


@pytest.mark.parametrize("rate", ["10", "1e30"])
def test_fine_tuning_that_diverges_says_what_to_lower(fewshot: Fewshot, folder: Path, rate: str) -> None:
    path = saved(folder / "sound.safetensors", small_network("unet"))
    words = ("--support", "mine", "--out", "out.safetensors", f"learning_rate={rate}", "steps=30")
    ended = fewshot("finetune", path, *words)
    assert ended.status == 1
    assert "diverged" in ended.message
    assert f"lower learning_rate, which is {float(rate):g}" in ended.message
    assert not list(folder.glob("*out*"))
    predicted = fewshot(
        "predict", path, *COMMANDS["predict"], *words[:2], "--shots", 1, "--adapt", "finetune", *words[4:]
    )
    assert (predicted.status, "lower learning_rate" in predicted.message) == (1, True)
    assert not list(folder.glob("out/masks/*"))


@pytest.mark.parametrize("command", SEGMENTING)
def test_logits_that_are_not_finite_are_no_empty_mask(fewshot: Fewshot, folder: Path, command: str) -> None:
    network = small_network("unet")
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(3e38)  # finite, but products of it are not
    path = saved(folder / "huge.safetensors", network)
    with pytest.raises(UserError, match="ZeroShot: what it computes of the images is not finite"):
        load(path, device="cpu").adapt().masks([np.full((64, 64), 200, np.uint8)])
    ended = fewshot(command, path, *COMMANDS[command])
    assert ended.status == 1
    assert "ZeroShot: what it computes of the images is not finite" in ended.message
    assert not list(folder.glob("out/masks/*"))
    assert not (folder / "out.onnx").exists()
