"""Checkpoints: the same tensors back, whole files or none, one readable line for what is no checkpoint, no pickle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from episodes.errors import StorageError
from fewshot import checkpoints
from fewshot.checkpoints import (
    CheckpointError,
    fill_network,
    fill_optimizer,
    load_checkpoint,
    load_network,
    network_tensors,
    optimizer_tensors,
    read_facts,
    save_checkpoint,
)
from fewshot.config.parsing import ConfigError
from tests.fewshot.small_networks import ENCODER, MODELS, assert_same_weights, small_network, weights

TENSORS = {
    "network.weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "network.half": torch.tensor([1 / 3], dtype=torch.bfloat16),
    "network.count": torch.tensor(7),
    "network.extremes": torch.tensor([3e38, -3e38, -0.0, 1e-45]),
}
FACTS = {"seed": 3, "model": {"network": "unet", "levels": [0, 1]}, "none": None}


def described(name: str) -> dict[str, Any]:
    """What a checkpoint has to say of a small network."""
    return {
        "encoder": ENCODER.model_dump(mode="json"),
        "model": MODELS[name].model_dump(mode="json"),
        "image_size": 64,
    }


def refusal(path: Path, read: Callable[[Path], object] = load_checkpoint) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


# Round trip


def test_tensors_and_facts_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "checkpoint.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    loaded = load_checkpoint(path)
    assert loaded.facts == FACTS
    assert loaded.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        found = loaded.tensors[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_views_and_gradients_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    weight = torch.arange(6.0).view(2, 3).T.requires_grad_()
    save_checkpoint(path, {"network.weight": weight}, {})
    assert torch.equal(load_checkpoint(path).tensors["network.weight"], weight)


def test_a_network_is_built_from_its_checkpoint_alone(tmp_path: Path) -> None:
    network = small_network("unet", seed=5)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, network_tensors(network), {**described("unet"), "seed": 5})
    loaded, checkpoint = load_network(path)
    assert_same_weights(weights(loaded), weights(network))
    assert checkpoint.facts["seed"] == 5


def test_a_checkpoint_does_not_ask_for_the_encoder_s_own_weights(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    facts = described("panet")
    facts["encoder"] |= {"weights": "/gone.safetensors", "freeze_norm": True}
    save_checkpoint(path, network_tensors(small_network("panet")), facts)
    assert load_network(path)[0].encoder.freeze_norm


def test_the_optimiser_s_state_comes_back(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, optimizer_tensors(optimizer), {})
    fresh = torch.optim.AdamW(network.parameters(), lr=0.1)
    fill_optimizer(fresh, load_checkpoint(path))
    found, expected = fresh.state_dict()["state"], optimizer.state_dict()["state"]
    assert found.keys() == expected.keys() == {0, 1}
    for index, entries in expected.items():
        assert found[index].keys() == entries.keys()
        assert all(torch.equal(found[index][name], value) for name, value in entries.items())


# Whole or not at all


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    before = path.read_bytes()

    def fail(tensors: Any, file: Path, metadata: Any) -> None:
        Path(file).write_bytes(b"half of it")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\); free some space"):
        save_checkpoint(path, TENSORS, {"seed": 4})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# What is no checkpoint


def test_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.safetensors") == "no such checkpoint; `fewshot train` writes one"


@pytest.mark.parametrize("cut", [0, 4, 50, -1])
def test_a_truncated_file(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    path.write_bytes(path.read_bytes()[:cut])
    assert refusal(path).startswith("damaged (")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("damaged (")


def test_another_program_s_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for header in (None, {"format": "pt"}):
        save_file({"weight": torch.ones(1)}, path, metadata=header)
        assert refusal(path).startswith("not a checkpoint of this toolkit; give a file that `fewshot train` wrote")


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[checkpoints.FORMAT])
    change(header)
    save_file({"network.weight": torch.ones(1)}, path, metadata={checkpoints.FORMAT: json.dumps(header)})


def test_a_newer_version_s_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    rewrite_header(path, lambda header: header.update(schema=checkpoints.SCHEMA + 1, version="9.9"))
    assert refusal(path) == "written by fewshot-bus 9.9; update to read it"


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("facts"),
        lambda header: header.pop("schema"),
        lambda header: header.update(schema="one"),
    ],
)
def test_a_damaged_header(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    rewrite_header(path, change)
    assert refusal(path).startswith("damaged (")


class Executed:
    """Raises when unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (exec, ("raise AssertionError('a pickle was loaded')",))


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"network.weight": torch.ones(1), "code": Executed()}, path)
    assert refusal(path).startswith("damaged (")


# A checkpoint of another network


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("network.bias"),
        lambda tensors: tensors.update({"network.more": torch.ones(1)}),
        lambda tensors: tensors.update({"network.weight": torch.ones(5, 5)}),
    ],
)
def test_tensors_that_do_not_fit_the_network(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = tmp_path / "checkpoint.safetensors"
    network = nn.Linear(3, 2)
    tensors = network_tensors(network)
    change(tensors)
    save_checkpoint(path, tensors, {})
    with pytest.raises(CheckpointError) as caught:
        fill_network(network, load_checkpoint(path), str(path))
    assert str(caught.value).startswith(f"{path}: does not fit its network: ")
    assert "\n" not in str(caught.value)


def test_facts_are_json(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    assert json.loads(header["fewshot-checkpoint"])["facts"] == FACTS


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        save_checkpoint(tmp_path / name, TENSORS, FACTS)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


# What a header says, before anything is made of it


def test_facts_are_read_without_the_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"network.weight": torch.ones(1000)}, FACTS)
    content = path.read_bytes()
    path.write_bytes(content[:-4000] + b"\xff" * 4000)
    assert read_facts(path) == FACTS
    assert refusal(tmp_path / "none", read_facts) == "no such checkpoint; `fewshot train` writes one"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 10**9}, "damaged (image_size: Input should be less than or equal to 4096)"),
        ({"image_size": "64"}, "damaged (image_size: Input should be a valid integer)"),
        ({"sources": ["busi"]}, "damaged (sources: 'busi' is not among the datasets)"),
        ({"test_images": "busi/a"}, "damaged (test_images: Input should be a valid list)"),
        ({"best": {"step": 1, "loss": 0.5}}, "damaged (best.waited: Field required)"),
    ],
)
def test_facts_of_the_wrong_kind(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, network_tensors(small_network("unet")), {**described("unet"), **change})
    for read in (load_checkpoint, load_network, read_facts):
        assert refusal(path, read).startswith(message)


def test_a_network_needs_the_size_of_its_images(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    facts = {key: value for key, value in described("unet").items() if key != "image_size"}
    save_checkpoint(path, network_tensors(small_network("unet")), facts)
    assert refusal(path, load_network) == "does not say which image_size its network is for; train it again"


def test_shapes_are_compared_before_a_tensor_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, network_tensors(small_network("panet")), described("unet"))
    opened = checkpoints.safe_open

    class Unread:
        """A file whose tensors must not be read."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.file = opened(*arguments, **options)

        def __enter__(self) -> "Unread":
            self.file.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self.file.__exit__(*error)

        def __getattr__(self, name: str) -> Any:
            assert name != "get_tensor"
            return getattr(self.file, name)

    monkeypatch.setattr(checkpoints, "safe_open", Unread)
    assert refusal(path, load_network).startswith("does not fit its network: ")


def test_tensors_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    tensors = network_tensors(small_network("unet"))
    name = min(name for name, tensor in tensors.items() if tensor.is_floating_point())
    save_checkpoint(path, {**tensors, name: tensors[name].to(torch.int32)}, described("unet"))
    assert refusal(path, load_network) == (
        f"does not fit its network: {name.removeprefix('network.')} is torch.int32, not torch.float32"
    )


def test_a_network_out_of_proportion_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    facts = described("unet")
    facts["model"]["options"] = {"decoder_channels": [100_000, 100_000]}
    save_checkpoint(path, network_tensors(small_network("unet")), facts)
    with pytest.raises(ConfigError, match=r"needs more than [\d,]+ bytes of weights; choose a smaller encoder"):
        load_network(path)
