"""The command line as a user calls it, without the start of a process."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fewshot.cli import main
from fewshot.terminal import PACKAGES
from tests.fewshot.tiny_runs import MODELS, PHANTOMS, tiny_tree


@dataclass(frozen=True)
class Ended:
    """What a call left behind."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What was complained of, on one line and without the frame that typer draws."""
        return " ".join("".join(" " if mark in "╭╮╰╯│─" else mark for mark in self.err).split())


Fewshot = Callable[..., Ended]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache: phantoms and stores are made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def fewshot(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fewshot:
    """Run `fewshot ARGUMENTS` in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    # What a call changes for the whole process is put back after the test.
    monkeypatch.setattr(sys, "path", list(sys.path))
    for logger in map(logging.getLogger, PACKAGES):
        for name in ("handlers", "level", "propagate"):
            monkeypatch.setattr(logger, name, getattr(logger, name))

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fewshot", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        code = end.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def configs(tmp_path: Path, cache: Path) -> Path:
    """The working folder, with `benchmark.yaml`, `train.yaml`, `unet.yaml` and `episodes.yaml`, all of them tiny."""
    whole = tiny_tree(tmp_path, cache=str(cache), runs="runs")
    shared = {key: whole[key] for key in ("image_size", "cache")}
    trained = {**shared, "datasets": {"linear": PHANTOMS["linear"]}, "sources": ["linear"], "runs": "runs"}
    trees = {
        "benchmark": whole,
        "episodes": {**shared, "datasets": PHANTOMS, "episodes": {"classes": [["benign", "malignant"]]}},
    }
    for name, network in (("train", "panet"), ("unet", "unet")):
        model = {key: value for key, value in MODELS[network].items() if key != "train"}
        settings = {"name": network, "encoder": whole["encoder"], "model": model, "train": MODELS[network]["train"]}
        trees[name] = {**trained, **settings}
    for name, tree in trees.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return tmp_path
