"""What no command does: run what a file says, or ask the network for anything that nobody told it to."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from baselines.encoders import Encoder, EncoderError
from tests import house
from tests.fewshot.tiny_runs import METHODS, MODELS, PHANTOMS, tiny_tree

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x', weights_only=True)",
        "import yaml\nyaml.safe_load('x')",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "eval('1')",
        "exec('1')",
    ],
)
def test_lint_refuses_what_would_run_a_file(source: str) -> None:
    """The rules TID251 and S of `make lint` hold for every production file; here they are tried."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        "TID251,S",
        "--stdin-filename",
        "fewshot/made.py",
        "-",
    ]
    ended = subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == 1, ended.stdout


def test_nothing_is_compiled_or_unpickled() -> None:
    """What no rule of ruff knows: `compile`, and `np.load` that may read pickles."""
    for path, source in house.sources().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                called = ast.unparse(node.func)
                assert called != "compile", path
                assert called != "np.load" or words.get("allow_pickle") == "False", path
                assert words.get("allow_pickle") != "True", path


# The network. A hook in every Python process of a command notes who asks for it, and refuses.

HOOK = """
import os, socket, sys, traceback
ASKING = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
def refuse(event, arguments):
    # Data workers talk to their process through sockets of the machine's own.
    if event in ASKING and getattr(arguments[0], "family", None) != socket.AF_UNIX:
        with open(os.environ["ASKED"], "a") as file:
            file.write(f"{event} {arguments[1:]!r} by {''.join(traceback.format_stack(limit=8))}\\n")
        raise ConnectionError("there is no network here")
    if event == "import" and arguments[0] == "albumentations" and "NO_ALBUMENTATIONS_UPDATE" not in os.environ:
        with open(os.environ["ASKED"], "a") as file:
            file.write("albumentations may look for a newer version\\n")
sys.addaudithook(refuse)
"""
RUNNER = """
import json, sys
from fewshot.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fewshot", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{arguments} ended with {end.code}")
"""
ONE_EACH = ("PANet", "U-Net", "U-Net fine-tuned")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working folder with the hook, a benchmark and a training."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    models = {name: MODELS[name] for name in ("panet", "unet")}
    whole = tiny_tree(tmp_path, models=models, methods={name: METHODS[name] for name in ONE_EACH}, shots=[1], draws=1)
    train: dict[str, Any] = {key: whole[key] for key in ("image_size", "cache", "runs", "device", "encoder")}
    train |= {"name": "unet", "datasets": {"linear": PHANTOMS["linear"]}, "sources": ["linear"]}
    train["model"] = {key: value for key, value in MODELS["unet"].items() if key != "train"}
    train["train"] = {**MODELS["unet"]["train"], "workers": 1}
    for name, tree in (("benchmark", whole), ("train", train)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def run(place: Path, *commands: Sequence[str]) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run commands in one process, and give what it left and who asked for the network."""
    asked = place / "asked.txt"
    environment = {
        "HOME": str(place),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(place / "hook"), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "ASKED": str(asked),
    }
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", RUNNER, json.dumps(commands)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return ended, asked.read_text() if asked.is_file() else ""


def test_no_command_asks_for_the_network(place: Path) -> None:
    ended, asked = run(
        place,
        ["data", "generate", "mine", "--scanner", "portable", "--images", "6"],
        ["data", "check", "mine", "--dataset", "folder"],
        ["data", "prepare", "mine", "--dataset", "folder", "--size", "64"],
        ["train", "train.yaml"],
        ["finetune", "runs/unet/checkpoint.safetensors", "--support", "mine", "--shots", "1", "--out", "a.safetensors"],
        ["evaluate", "runs/unet/checkpoint.safetensors", "--data", "mine", "-d", "folder", "--out", "judged"],
        ["benchmark", "benchmark.yaml"],
        ["report", "runs/tiny"],
    )
    assert ended.returncode == 0, ended.stderr
    assert asked == ""
    assert (place / "runs" / "tiny" / "report.html").is_file()
    assert (place / "judged").is_dir()


@pytest.mark.slow  # the download is tried again and again
def test_imagenet_weights_are_asked_for_where_they_are_configured(place: Path) -> None:
    ended, asked = run(place, ["train", "train.yaml", "encoder.weights=imagenet", "encoder.name=resnet18"])
    assert ended.returncode != 0
    assert "socket." in asked
    assert "its ImageNet weights cannot be downloaded" in ended.stderr
    assert "set encoder.weights to a safetensors file, or to none" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "name", ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18", "local-dir:/tmp", "timm/resnet18"]
)
def test_no_name_of_an_encoder_asks_for_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("timm was asked for it")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(EncoderError, match="give the name of a network in timm, such as resnet18"):
        Encoder(name)
