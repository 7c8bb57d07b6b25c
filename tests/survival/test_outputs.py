"""Commands that write once: killed or out of room, they leave all of their output or none, and nothing beside it."""

import resource
import shutil
import sys
import tarfile
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from random import Random

import pytest
import yaml

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.fewshot.evaluate.conftest import write_checkpoint
from tests.survival.children import Ended, call_fewshot, ended, in_child, run
from tests.survival.pipeline import contents

KILLED = -9
COMMANDS: dict[str, str] = {
    "check": "data check mine --dataset folder --out found.json",
    "show": "data show mine --dataset folder --out figures --count 4 --cache cache",
    "split": "data split data.yaml splits/mine.json --folds 2",
    "init": "data init bare --out configs/bare.yaml --metadata",
    "folder": "data generate made/phantoms --scanner linear --images 2",
    "busi": "data generate phantoms --scanner linear --images 3 --layout busi",
    "bus_uclm": "data generate phantoms --scanner linear --images 2 --layout bus_uclm",
    "udiat": "data generate phantoms --scanner linear --images 3 --layout udiat",
    "unpack": "data unpack mine.tar unpacked",
    "sample": "episodes sample data.yaml tasks.jsonl --count 3",
    "finetune": "finetune unet.safetensors --support annotated --out tuned/unet.safetensors steps=1",
    "evaluate": "evaluate unet.safetensors --data mine -d folder --part all --out judged --cache cache",
    "predict": "predict unet.safetensors --images bare/images --out predicted",
    "export": "export unet.safetensors --out unet.onnx",
    "select": "select unet.safetensors --images bare/images --budget 2 --out first",
}
# What a message names: a file of several, or the folder of them all.
OUTPUTS = {
    "check": "found.json",
    "show": "figures/contact_sheet.png",
    "split": "splits/mine-fold0.json",
    "init": "bare/metadata.csv",
    "folder": "made/phantoms: ",
    "busi": "phantoms: ",
    "bus_uclm": "phantoms: ",
    "udiat": "phantoms: ",
    "unpack": "unpacked/mine/",
    "sample": "tasks.jsonl",
    "finetune": "tuned/unet.safetensors",
    "evaluate": "judged/masks/",
    "predict": "predicted/prediction.json",
    "export": "unet.onnx",
    "select": "first",
}
RENAMES_SEVERAL = {"show", "split", "init"}  # into folders that hold others' files: one after the other, at the end
GOES_ON = {"predict"}  # what is there already is right, and the same command adds the rest
QUICK = ("show", "split", "init", "folder", "finetune", "select")


def some(names: Sequence[str]) -> pytest.MarkDecorator:
    """These commands in the suite, the others where slow tests are asked for."""
    marked = [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
    return pytest.mark.parametrize("name", marked)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all commands begin with."""
    folder = tmp_path_factory.mktemp("desk") / "before"
    phantoms = [one for one in generate(PhantomSpec("linear", 16, size=64)) if one.label_map.any()]
    write_folder(phantoms[:2], folder / "annotated")
    for name in ("mine", "bare"):
        write_folder(phantoms[2:10], folder / name)
    (folder / "bare" / "metadata.csv").unlink()
    with tarfile.open(folder / "mine.tar", "w") as archive:
        archive.add(folder / "mine", "mine")
    write_checkpoint(folder / "unet.safetensors", "unet")
    datasets = {"mine": {"reader": "folder", "root": "mine"}}
    tree = {"datasets": datasets, "cache": "cache", "image_size": 64, "episodes": {"n_shot": 1, "n_query": 1}}
    (folder / "data.yaml").write_text(yaml.safe_dump(tree))
    for name, size in (("folder", 64), ("folder", 256), ("mine", 64)):
        prepared = run(folder, *f"data prepare mine --dataset folder --name {name} --cache cache --size {size}".split())
        assert prepared.status == 0, prepared.said
    return folder


Undisturbed = tuple[Ended, dict[str, bytes]]


@pytest.fixture(scope="module")
def undisturbed(desk: Path) -> dict[str, Undisturbed]:
    """How each command ends, and what it leaves; run when it is asked for first."""

    class Runs(dict[str, Undisturbed]):
        def __missing__(self, name: str) -> Undisturbed:
            folder = Path(shutil.copytree(desk, desk.parent / name))
            found = run(folder, *COMMANDS[name].split())
            assert found.status == 0, found.said
            self[name] = found, contents(folder)
            return self[name]

    return Runs()


@some(QUICK)
def test_killed_it_leaves_whole_files_and_the_next_one_tidies_up(
    name: str, desk: Path, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    whole, complete = undisturbed[name]
    random = Random(f"outputs {name}")  # noqa: S311
    for kill_at in sorted({random.randint(1, whole.events), whole.events - 1}):
        folder = Path(shutil.copytree(desk, tmp_path / f"{kill_at}"))
        before = contents(folder)
        killed = run(folder, *COMMANDS[name].split(), kill_at=kill_at)
        assert killed.status in {0, KILLED}, killed.said
        left = contents(folder)
        found = shown(left) - shown(before)
        if name in RENAMES_SEVERAL:
            for one in found:  # of which one says where the folder is
                places = str(folder).encode(), str(desk.parent / name).encode()
                assert left[one].replace(places[0], b"") == complete[one].replace(places[1], b"")
        else:
            assert not found or name in GOES_ON or found == shown(complete) - shown(before), f"before change {kill_at}"
        if not found or name in GOES_ON:
            again = run(folder, *COMMANDS[name].split())
            assert again.status == 0, f"before change {kill_at}: {again.said}"
            assert contents(folder).keys() == complete.keys(), f"before change {kill_at}"


def shown(files: dict[str, bytes]) -> set[str]:
    """The files that are not hidden, nor in a hidden folder."""
    return {name for name in files if not any(part.startswith(".") for part in Path(name).parts)}


@some([name for name in COMMANDS if name not in {"busi", "bus_uclm", "export", "evaluate"}])
def test_out_of_room_it_says_so_in_one_line_and_leaves_nothing(name: str, desk: Path, tmp_path: Path) -> None:
    """Files may have a few bytes, of which locks and the first lines of a table are made."""
    folder = Path(shutil.copytree(desk, tmp_path / "full"))
    before = places(folder)
    found = ended(folder, in_child(call_with_little_room, folder, COMMANDS[name].split()))
    assert found.status == 1, found.said
    (complaint,) = [line for line in found.said.splitlines() if line.startswith("fewshot: ")]
    assert complaint.startswith(f"fewshot: {OUTPUTS[name]}")
    assert complaint.endswith("cannot be written (File too large); free some space, then give the same command again")
    assert "partial" not in found.said
    assert "Traceback" not in found.said
    assert places(folder) == before


def places(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def call_with_little_room(arguments: Sequence[str]) -> None:
    """Call a command whose files may have a few bytes; what it says is written when they may have more again."""
    output, sys.stdout, sys.stderr = sys.stdout, StringIO(), StringIO()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, most))
    try:
        call_fewshot(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        output.write(sys.stderr.getvalue())
