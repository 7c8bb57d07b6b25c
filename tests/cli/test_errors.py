"""What a user can do wrong: a readable line that says what to do, a status, and no traceback."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.cli.conftest import Ended, Fewshot

FAILED, WRONG_USE = 1, 2


def complaint(ended: Ended, status: int) -> str:
    """The message of a call that must have failed as it should."""
    assert ended.status == status, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert "fault of the program" not in ended.err
    return ended.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("bench", "No such command 'bench'"),
        ("train", "Missing argument 'CONFIG'"),
        ("train train.yaml --fast", "No such option: --fast"),
        ("episodes sample episodes.yaml out.jsonl --count 0", "'--count'"),
        ("episodes sample episodes.yaml out.jsonl --count many", "'--count'"),
        ("data check .", "Missing option '--dataset'"),
        ("finetune a.safetensors --out b.safetensors", "Missing option '--support'"),
        ("finetune a.safetensors --support . --out b.safetensors --shots 0", "'--shots'"),
        ("evaluate a.safetensors --data . -d busi", "Missing option '--out'"),
        (
            "evaluate a.safetensors --data . -d busi --out b --part train",
            "'--part': .*'train' is not one of 'test', 'all'",
        ),
        ("evaluate a.safetensors --data . -d busi --out b flips", "'flips': expected key=value"),
        ("data check . --dataset busy", "'--dataset'.* no dataset reader 'busy': did you mean busi"),
        ("data check . --dataset nobody:read", "'--dataset'.* 'nobody:read' cannot be imported"),
        ("data prepare . --dataset folder --size 8", "'--size'"),
        ("data prepare . --dataset folder --name a/b", "datasets.a/b.*should match pattern"),
        ("data generate out --scanner loud", "'--scanner': unknown scanner 'loud': use one of linear, highfreq"),
        ("data generate out --scanner linear --layout busy", "'--layout': .*'busy' is not one of 'folder', 'busi'"),
    ],
)
def test_wrong_words_are_wrong_use(fewshot: Fewshot, configs: Path, arguments: str, message: str) -> None:
    ended = fewshot(*arguments.split())
    assert_matches(complaint(ended, WRONG_USE), message)


def assert_matches(text: str, pattern: str) -> None:
    assert re.search(pattern, text), f"{pattern!r} is not in {text!r}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("benchmark missing.yaml", r"missing\.yaml: cannot be read \(No such file or directory\); give the path of"),
        ("benchmark benchmark.yaml drwas=3", r"benchmark\.yaml: drwas: unknown key; did you mean 'draws'\?"),
        ("benchmark benchmark.yaml encoder.nmae=x", r"encoder\.nmae: unknown key; did you mean 'name'\?"),
        ("benchmark benchmark.yaml draws=few", r"draws: .*valid integer"),
        ("benchmark benchmark.yaml draws=0", r"draws: .*greater than or equal to 1"),
        ("benchmark benchmark.yaml draws", r"'draws': expected key=value, such as train\.steps=100"),
        ("benchmark benchmark.yaml name.first=x", r"'name\.first=x': name is a value, it has no keys below it"),
        ("benchmark benchmark.yaml shots=[1,1]", r"shots: 1 is given twice"),
        ("benchmark benchmark.yaml targets=[linear] sources=[linear]", r"none is left to train panet for linear"),
        ("benchmark benchmark.yaml sources=[busi]", r"sources: 'busi' is not among linear, highfreq, portable"),
        ("benchmark benchmark.yaml datasets.linear.phantom.scanner=loud", r"scanner: unknown scanner 'loud': use one"),
        ("benchmark benchmark.yaml datasets.linear.root=x", r"datasets\.linear: give either `root`.* or `phantom`"),
        ("benchmark benchmark.yaml methods.empty.method=emtpy", r"methods\.empty: .*'emtpy'.*did you mean 'empty'\?"),
        ("benchmark benchmark.yaml methods.empty.method=nobody:Method", r"methods\.empty: .*No module named 'nobody'"),
        ("benchmark benchmark.yaml methods.PANet.model=none", r"methods: model: 'none' is not among panet-untrained"),
        ("benchmark benchmark.yaml models.panet.network=panette", r"models\.panet: .*did you mean 'panet'\?"),
        ("benchmark benchmark.yaml models.unet.options.depth=3", r"models\.unet: .*depth: unknown key; valid keys"),
        ("benchmark benchmark.yaml device=abacus", r"device: 'abacus' is not available"),
        ("train train.yaml train.steps=-1", r"train\.yaml: train\.steps: .*greater than or equal to 1"),
        ("train benchmark.yaml", r"benchmark\.yaml: train: Field required"),
    ],
)
def test_a_wrong_configuration_is_wrong_use_and_names_file_and_key(
    fewshot: Fewshot, configs: Path, arguments: str, message: str
) -> None:
    ended = fewshot(*arguments.split())
    assert_matches(complaint(ended, WRONG_USE), message)
    assert not (configs / "runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: [1, 2", r"odd\.yaml: not YAML: "),
        ("- a\n- b\n", r"odd\.yaml: expected keys and values at the top level, found list"),
        ("", r"odd\.yaml: expected keys and values at the top level, found NoneType"),
        (b"\xff\xfe\x00", r"odd\.yaml: not YAML: "),
    ],
)
def test_a_file_that_is_no_configuration(fewshot: Fewshot, configs: Path, content: str | bytes, message: str) -> None:
    (configs / "odd.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_matches(complaint(fewshot("train", "odd.yaml"), WRONG_USE), message)


def test_every_wrong_key_has_its_line(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("train", "train.yaml", "stepps=1", "train.steps=none")
    assert [line.split(": ")[:3] for line in ended.err.splitlines()] == [
        ["fewshot", "train.yaml", "train.steps"],
        ["fewshot", "train.yaml", "stepps"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("data check nowhere --dataset busi", r"nowhere does not exist: give the folder that holds the dataset busi"),
        ("data check train.yaml --dataset busi", r"train\.yaml is a file, not a folder"),
        ("data prepare . --dataset bus_uclm", r"lacks the folders? "),
        ("train train.yaml encoder.name=resnet1", r"encoder 'resnet1'.*Unknown model"),
        ("train train.yaml encoder.weights=none.safetensors", r"none\.safetensors: cannot be read as safetensors"),
        ("train train.yaml encoder.weights=train.yaml", r"train\.yaml: cannot be read as safetensors"),
        ("train train.yaml model.levels=[8]", r"levels \(8,\).*fewer levels"),
        ("train train.yaml train.episodes.n_shot=9", r"linear, class lesion: \d patients, 10 needed.*Lower n_shot"),
        (
            "finetune none.safetensors --support . --out out.safetensors",
            r"none\.safetensors: no such checkpoint; `fewshot train` writes",
        ),
        ("finetune train.yaml --support . --out out.safetensors", r"train\.yaml: damaged"),
        ("finetune none.safetensors --support . --out train.yaml", r"train\.yaml: exists already; choose another name"),
        ("benchmark benchmark.yaml draw_depth=10", r"portable: \d patients with a lesion, 11 needed"),
        ("data generate . --scanner linear", r"\.: exists already; choose another name"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(
    fewshot: Fewshot, configs: Path, arguments: str, message: str
) -> None:
    assert_matches(complaint(fewshot(*arguments.split()), FAILED), message)


def test_a_damaged_checkpoint_is_named(fewshot: Fewshot, configs: Path) -> None:
    path = Path(fewshot("train", "unet.yaml").out.strip())
    path.write_bytes(path.read_bytes()[:-1000])
    ended = fewshot("finetune", path, "--support", support_folder(configs), "--out", "out.safetensors")
    assert_matches(complaint(ended, FAILED), rf"{path}: damaged .*train it again, or restore the file")


def test_a_support_image_without_a_lesion_is_named(fewshot: Fewshot, configs: Path) -> None:
    path = fewshot("train", "unet.yaml").out.strip()
    support = support_folder(configs)
    mask = min((support / "masks").iterdir())
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(mask)
    ended = fewshot("finetune", path, "--support", support, "--out", "out.safetensors")
    assert_matches(
        complaint(ended, FAILED), rf"{mask.stem}: the mask is empty; outline the lesion or take the image out"
    )
    assert not (configs / "out.safetensors").exists()


def support_folder(parent: Path) -> Path:
    write_folder(generate(PhantomSpec("portable", 2, size=64)), parent / "support")
    return parent / "support"


# Statuses and --debug


def test_debug_shows_where_an_error_came_from(fewshot: Fewshot, configs: Path) -> None:
    for arguments in (["--debug", "train", "missing.yaml"], ["train", "missing.yaml", "--debug"]):
        ended = fewshot(*arguments)
        assert ended.status == WRONG_USE
        assert ended.err.startswith("Traceback (most recent call last):")
        assert ended.err.splitlines()[-1].startswith("fewshot: missing.yaml: cannot be read")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RuntimeError("boom"), 1, "fewshot: RuntimeError: boom (a fault of the program; --debug shows where)"),
        (
            OSError(28, "No space left on device", "runs"),
            1,
            (
                "fewshot: runs: cannot be written (No space left on device); free some space, then give the same"
                " command again"
            ),
        ),
        (KeyboardInterrupt(), 130, "fewshot: interrupted; the same command goes on from here"),
    ],
)
def test_other_endings_have_a_line_too(
    fewshot: Fewshot,
    configs: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    line: str,
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("fewshot.benchmark.run.run_benchmark", failing)
    ended = fewshot("benchmark", "benchmark.yaml")
    assert ended.status == status
    assert ended.err.splitlines()[-1] == line
    assert "Traceback" not in ended.err


def test_a_wrong_key_is_refused_wherever_it_stands_in_a_file(fewshot: Fewshot, configs: Path) -> None:
    tree = yaml.safe_load((configs / "benchmark.yaml").read_text())
    tree["models"]["panet"]["train"]["stepps"] = 3
    (configs / "benchmark.yaml").write_text(yaml.safe_dump(tree))
    message = complaint(fewshot("benchmark", "benchmark.yaml"), WRONG_USE)
    assert_matches(message, r"models\.panet\.train\.stepps: unknown key; did you mean 'steps'\?")
