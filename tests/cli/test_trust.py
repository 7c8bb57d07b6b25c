"""Checkpoints that name a network's module: it is imported where the user named it too, and nowhere else."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.api import load
from fewshot.checkpoints import CheckpointError, load_network, network_tensors, read_facts, save_checkpoint
from fewshot.export import ExportRequest, export_checkpoint
from tests.cli.conftest import Fewshot
from tests.fewshot.small_networks import ENCODER, MODELS, small_network

OWN = """
from pathlib import Path

from baselines.unet import UNet

Path(__file__).with_suffix(".ran").touch()


class Net(UNet):
    pass
"""
MODULES = ("antigravity", "my_net")

# Every command that loads a checkpoint, and what else it is given.
COMMANDS = {
    "predict": ("--images", "mine/images", "--out", "out"),
    "evaluate": ("--data", "mine", "-d", "folder", "--part", "all", "--out", "out"),
    "finetune": ("--support", "mine", "--out", "out.safetensors", "steps=1"),
    "export": ("--out", "out.onnx"),
    "select": ("--images", "mine/images", "--budget", "1", "--out", "out"),
    "demo": ("--port", "0"),
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test imported."""
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def folder(configs: Path) -> Path:
    """The working folder, with a dataset `mine` and a network of the user's own."""
    write_folder(generate(PhantomSpec("linear", 4, size=64)), configs / "mine")
    (configs / "my_net.py").write_text(OWN)
    return configs


def planted(path: Path, network: str) -> Path:
    model = {**MODELS["unet"].model_dump(mode="json"), "network": network}
    facts = {"encoder": ENCODER.model_dump(mode="json"), "model": model, "image_size": 64}
    facts |= {"sources": [], "datasets": {}}
    save_checkpoint(path, network_tensors(small_network("unet")), facts)
    return path


def benchmark_words(checkpoint: Path, network: str | None = None) -> tuple[str, ...]:
    model = f"{{checkpoint: {checkpoint}{f', network: {network}' if network else ''}}}"
    methods = "{zero: {method: zero-shot, model: mine}}"
    return ("benchmark", "benchmark.yaml", f"models={{mine: {model}}}", f"methods={methods}", "shots=[1]", "draws=1")


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("command", [*COMMANDS, "benchmark", "--also"])
def test_nothing_is_imported_for_a_file_that_asks_for_it(
    fewshot: Fewshot, folder: Path, command: str, module: str
) -> None:
    path = planted(folder / "received.safetensors", f"{module}:Net")
    if command == "--also":
        sound = planted(folder / "sound.safetensors", "unet")
        words = ("evaluate", str(sound), "--also", str(path), *COMMANDS["evaluate"])
    elif command == "benchmark":
        words = benchmark_words(path)
    else:
        words = (command, str(path), *COMMANDS[command])
    before = set(sys.modules)
    ended = fewshot(*words)
    assert ended.status == 1, ended.err
    assert f"received.safetensors: has a network '{module}:Net'" in ended.message
    assert f"give --trust '{module}'" in ended.message
    assert len([line for line in ended.err.splitlines() if line.startswith("fewshot: ")]) == 1
    assert not (set(sys.modules) - before) & {*MODULES}
    assert not list(folder.glob("*.ran"))
    assert not list(folder.glob("out*"))


@pytest.mark.parametrize("trust", [(), ("my",), ("my_net2", "net"), ("my_net.inner",), "my_net2", ("",)])
def test_only_that_very_module_counts(folder: Path, trust: tuple[str, ...] | str) -> None:
    path = planted(folder / "received.safetensors", "my_net:Net")
    with pytest.raises(CheckpointError, match="has a network 'my_net:Net'"):
        load(path, device="cpu", trust=trust)
    with pytest.raises(CheckpointError, match="has a network 'my_net:Net'"):
        load_network(path)
    with pytest.raises(CheckpointError, match="has a network 'my_net:Net'"):
        export_checkpoint(ExportRequest(path), folder / "out.onnx")
    assert not list(folder.glob("*.ran"))


@pytest.mark.parametrize("command", ["predict", "evaluate", "finetune", "select"])
def test_a_trusted_module_is_used(fewshot: Fewshot, folder: Path, command: str) -> None:
    path = planted(folder / "received.safetensors", "my_net:Net")
    ended = fewshot(command, path, *COMMANDS[command], "--trust", "other", "--trust", "my_net")
    assert ended.status == 0, ended.err
    assert (folder / "my_net.ran").is_file()


def test_a_configuration_that_names_the_module_trusts_it(fewshot: Fewshot, folder: Path) -> None:
    tree = yaml.safe_load((folder / "unet.yaml").read_text())
    tree["model"]["network"] = "my_net:Net"
    (folder / "own.yaml").write_text(yaml.safe_dump(tree))
    trained = fewshot("train", "own.yaml", "name=own")
    assert trained.status == 0, trained.err
    path = folder / trained.out.strip()
    assert read_facts(path)["model"]["network"] == "my_net:Net"
    assert fewshot(*benchmark_words(path, "other_net:Net")).status == 1
    judged = fewshot(*benchmark_words(path, "my_net:Net"), "name=again")
    assert judged.status == 0, judged.err
    assert type(load(path, device="cpu", trust="my_net").method.network).__name__ == "Net"  # type: ignore[attr-defined]
