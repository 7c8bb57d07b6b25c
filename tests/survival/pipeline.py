"""What is killed and disturbed: preparation, training, benchmark and report, one after the other in one folder."""

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import yaml

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.fewshot.tiny_runs import METHODS, MODELS, PHANTOMS, tiny_tree
from tests.survival.children import Ended, run

COMMANDS: dict[str, tuple[str, ...]] = {
    "prepare": ("data", "prepare", "mine", "--dataset", "folder", "--size", "64", "--cache", "cache"),
    "train": ("train", "train.yaml"),
    "benchmark": ("benchmark", "benchmark.yaml"),
    "report": ("report", "runs/tiny", "--out", "reported"),
}
_ROWS = ("empty", "PANet", "U-Net", "U-Net fine-tuned")
_OPTIONS = {"steps": 5, "save_every": 2, "batch_size": 2, "average_decay": 0.9}


@dataclass(frozen=True)
class Stage:
    """One command, undisturbed.

    Attributes:
        command: its name.
        before: a folder as the command found it; not to be changed.
        contents: what it left there.
        ended: how it ended.
    """

    command: str
    before: Path
    contents: dict[str, bytes]
    ended: Ended

    def begin(self, folder: Path) -> Path:
        """A folder in which the command can be run."""
        shutil.copytree(self.before, folder)
        return folder

    def run(self, folder: Path, kill_at: int | None = None, kill_after: float | None = None) -> Ended:
        """Run the command, or a part of it."""
        return run(folder, *COMMANDS[self.command], kill_at=kill_at, kill_after=kill_after)

    def assert_complete(self, folder: Path) -> None:
        """Everything is there, to the byte, and nothing else, such as half-written files."""
        found = contents(folder)
        assert not self.contents.keys() - found.keys(), f"missing: {self.contents.keys() - found.keys()}"
        assert not found.keys() - self.contents.keys(), f"left over: {found.keys() - self.contents.keys()}"
        differing = [name for name, content in found.items() if content != self.contents[name]]
        assert not differing, f"differing: {differing}"


def stages(parent: Path) -> dict[str, Stage]:
    """All commands, run undisturbed one after the other."""
    folder = parent / "reference"
    write_inputs(folder)
    found: dict[str, Stage] = {}
    for command, arguments in COMMANDS.items():
        before = Path(shutil.copytree(folder, parent / f"before-{command}"))
        ended = run(folder, *arguments)
        assert ended.status == 0, ended.said
        found[command] = Stage(command, before, contents(folder), ended)
    return found


def write_inputs(folder: Path) -> None:
    """A dataset of the user's own, `train.yaml` and `benchmark.yaml`; paths in them are relative to the folder."""
    write_folder(generate(PhantomSpec("highfreq", 12, size=64)), folder / "mine")
    whole = tiny_tree(folder, cache="cache", runs="runs", sources=["linear"], training_seeds=[0])
    whole["tracking"] = {"identities": "keep"}  # pseudonyms are others in each run
    whole["datasets"] = {name: PHANTOMS[name] for name in ("linear", "portable")}
    whole["methods"] = {name: METHODS[name] for name in _ROWS}
    used = {method["model"] for method in whole["methods"].values() if "model" in method}
    whole["models"] = {name: MODELS[name] for name in MODELS if name in used}
    shared = {key: whole[key] for key in ("image_size", "cache", "runs", "device", "encoder")}
    network = {key: value for key, value in MODELS["unet"].items() if key != "train"}
    mine = {"mine": {"reader": "folder", "root": "mine"}}
    trained = {**shared, "name": "own", "datasets": mine, "sources": ["mine"], "model": network, "train": _OPTIONS}
    for name, tree in {"train": trained, "benchmark": whole}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, hidden ones as well but for those of locks, which outlive a killed process."""
    files = [path for path in folder.rglob("*") if path.is_file() and not fnmatch(path.name, ".*.lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
