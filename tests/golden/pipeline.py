"""The commands that are recorded: every one of the command line, on phantoms, one after the other in one folder."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from tests.golden.digests import Entries, digest_folder, text_digest, without_place

INPUTS = Path(__file__).with_name("inputs.yaml")
WORKER = Path(__file__).with_name("worker.py")
PHANTOM = Path(__file__).parents[2] / "configs" / "benchmark" / "phantom.yaml"

COMMANDS = (
    *("", "train", "finetune", "evaluate", "benchmark", "report", "predict", "select", "export", "demo"),
    *("data", "data unpack", "data check", "data show", "data prepare", "data split", "data init", "data generate"),
    *("episodes", "episodes sample"),
)


class Recorder:
    """Runs commands in a folder and keeps how they ended.

    Args:
        root: the working folder.
        python: the interpreter, whose `fewshot` is run.
        say: what is told of each command that has ended.

    Attributes:
        found: the entries so far.
        inputs: what `inputs.yaml` says.
    """

    def __init__(self, root: Path, python: str, say: Callable[[str], None]) -> None:
        self.root = root
        self.python = python
        self.say = say
        self.found: Entries = {}
        self.inputs: dict[str, Any] = yaml.safe_load(INPUTS.read_text())
        self._environment = _environment(root)
        self._worker: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Recorder":
        self._worker = subprocess.Popen(  # noqa: S603 - the interpreter that the caller names
            [self.python, WORKER],
            cwd=self.root,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.communicate()  # closes its input, which ends it

    def run(self, name: str, words: str, *more: str) -> None:
        """Run `fewshot WORDS` and keep its status and what it said.

        Args:
            name: of its entries.
            words: split at spaces.
            more: whole words.
        """
        worker, began = self._worker, time.perf_counter()
        assert worker is not None
        assert worker.stdin is not None
        assert worker.stdout is not None
        out, err = self.root / ".out", self.root / ".err"  # hidden, and so no files of the record
        worker.stdin.write(json.dumps([[*words.split(), *more], str(out), str(err)]) + "\n")
        worker.stdin.flush()
        status = int(worker.stdout.readline())
        self._keep(name, status, out=out.read_text(), err=err.read_text())
        self.say(f"{name}: status {status}, {time.perf_counter() - began:.1f} s")

    def start(self, name: str, words: str) -> None:
        """Do the same in a new process, as a user does."""
        command = [self.python, "-m", "fewshot", *words.split()]
        ended = subprocess.run(  # noqa: S603
            command, cwd=self.root, env=self._environment, capture_output=True, text=True, check=False
        )
        self._keep(name, ended.returncode, out=ended.stdout, err=ended.stderr)

    def _keep(self, name: str, status: int, **said: str) -> None:
        self.found[f"{name}: status"] = status
        for stream, text in said.items():
            self.found[f"{name}: {stream}"] = text_digest(without_place(text, self.root))


def _environment(root: Path) -> dict[str, str]:
    """The caller's, without what changes results or messages."""
    dropped = ("PYTHON", "RANK", "WORLD_SIZE", "FEWSHOT", "WANDB", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    fixed = {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "HF_HUB_OFFLINE": "1"}
    return kept | fixed | {"XDG_CACHE_HOME": str(root / "cache")}


def record(root: Path, python: str, say: Callable[[str], None]) -> Entries:
    """Run all commands in an empty folder, and digest what they print and leave behind."""
    with Recorder(root, python, say) as recorder:
        for command in COMMANDS:
            recorder.start(f"help {command}".strip(), f"{command} --help")
        for part in (_datasets, _splits, _trainings, _uses, _tiny_benchmarks, _wrong_calls, _benchmark):
            part(recorder)
    return recorder.found | digest_folder(root)


def _datasets(recorder: Recorder) -> None:
    """Make phantoms in every layout, and look at them, check, decode and draw them."""
    run, root = recorder.run, recorder.root
    for layout in ("folder", "busi", "bus_uclm", "udiat"):
        run(f"generate {layout}", f"data generate made/{layout} --scanner linear --images 24 --layout {layout}")
        run(f"check {layout}", f"data check made/{layout} -d {layout} --json")
        run(f"init {layout}", f"data init made/{layout} --out {layout}.yaml")
    run("generate whole", "data generate whole --scanner portable --images 8 --seed 3")
    run("generate annotated", "data generate annotated --scanner portable --images 3")
    shutil.copytree(root / "whole" / "images", root / "scans")
    shutil.copytree(root / "whole", root / "bare", ignore=shutil.ignore_patterns("*.csv", "*.json"))
    run("init bare", "data init bare --metadata")
    run("check details", "data check made/folder -d folder --details --strict --out check.json")
    (root / "some.txt").write_text("\n".join(f"linear_{number:04}" for number in range(9)) + "\n")
    mistakes = {"exclude": {"linear_0001": "blurred"}, "relabel": {"linear_0002": {"label": "benign", "reason": "so"}}}
    _write(root / "mistakes.yaml", {"version": 1, "dataset": "folder", **mistakes})
    curated = "--curated some.txt --corrections mistakes.yaml --duplicates keep-first"
    run("prepare folder", f"data prepare made/folder -d folder --size 64 --cache prepared {curated}")
    run("prepare busi", "data prepare made/busi -d busi --size 96 --cache prepared")
    run("prepare bus_uclm", "data prepare made/bus_uclm -d bus_uclm --cache prepared --doppler drop --name mine")
    run("show", "data show made/folder -d folder --count 9 --seed 1 --out figures --cache prepared")
    archive = Path(shutil.make_archive(str(root / "archive"), "zip", root / "made", "udiat"))
    run("unpack", "data unpack archive.zip unpacked")
    archive.unlink()  # it holds the times of its files


def _splits(recorder: Recorder) -> None:
    """Split datasets and sample episodes."""
    run = recorder.run
    datasets = {name: {"reader": name, "root": f"made/{name}"} for name in ("folder", "bus_uclm")}
    episodes = {"classes": [["benign", "malignant"]]}
    _write(recorder.root / "episodes.yaml", {"image_size": 64, "datasets": datasets, "episodes": episodes})
    run("split plain", "data split episodes.yaml splits/plain.json")
    run("split parts", "data split episodes.yaml splits/parts.json --parts train=0.6,test=0.4")
    run("split folds", "data split episodes.yaml splits/folds.json --folds 3 --seed 1")
    run("sample", "episodes sample episodes.yaml tasks.jsonl --count 40")
    across = "episodes.pairing=across episodes.n_query=2 seed=5"
    run("sample across", f"episodes sample episodes.yaml across.jsonl {across} --count 20")


def _trainings(recorder: Recorder) -> None:
    """Train every network for a few steps, and judge it on a dataset that it has not seen."""
    run, inputs = recorder.run, recorder.inputs
    for name, changes in inputs["trainings"].items():
        tree = {"name": name, **inputs["shared"], **changes}
        tree["train"] = inputs["shared"]["train"] | changes["train"]
        _write(recorder.root / "train" / f"{name}.yaml", tree)
        run(f"train {name}", f"train train/{name}.yaml")
    datasets = ", ".join(f"{name}: {{reader: {name}, root: made/{name}}}" for name in ("folder", "bus_uclm"))
    given = ("sources=[folder, bus_uclm]", f"datasets={{{datasets}}}", "split=splits/plain.json", "name=given-split")
    run("train given-split", "train train/pyramid-unet.yaml", *given)
    run("train again", "train train/pyramid-unet.yaml", *given)
    run("train held-out", "train train/pyramid-unet.yaml name=held-out", "test_fold={index: 1, of: 3}")
    for name in inputs["trainings"]:
        words = f"--data made/bus_uclm -d bus_uclm --out judged/{name} {inputs['evaluations'].get(name, '')}"
        run(f"evaluate {name}", f"evaluate {_checkpoint(name)} {words}")
    own = "--data made/folder -d folder --out judged/own --json"
    run("evaluate given-split", f"evaluate {_checkpoint('given-split')} {own}")


def _uses(recorder: Recorder) -> None:
    """Fine-tune, predict, select and export."""
    run, panet, unet = recorder.run, _checkpoint("panet"), _checkpoint("unet")
    run("finetune", f"finetune {unet} --support annotated --shots 2 --out finetuned.safetensors steps=3")
    for name, (model, words) in recorder.inputs["predictions"].items():
        images = f"--images scans --out predicted/{name} --device cpu"
        run(f"predict {name}", f"predict {_checkpoint(model)} {images} {words}")
    run("predict again", f"predict {panet} --support annotated --images scans --out predicted/prototypes")
    run("select", f"select {panet} --images scans --budget 3 --out selected")
    run("select centres", f"select {unet} --images scans --budget 3 --out centres --by k-centres")
    run("export prototypes", f"export {panet} --support annotated --out exported/panet.onnx")
    run("export classes", f"export {_checkpoint('multitask-unet')} --out exported/multitask.onnx flips=true")


def _tiny_benchmarks(recorder: Recorder) -> None:
    """Run benchmarks of every kind, as small as can be."""
    run, root, inputs = recorder.run, recorder.root, recorder.inputs
    tiny = inputs["tiny"] | {"tracking": {"identities": "keep"}}  # pseudonyms are others in each run
    _write(root / "tiny.yaml", tiny)
    _write(root / "classic.yaml", tiny | inputs["classic"])
    few = "methods={PANet: {method: prototypes, model: panet}, empty: {method: empty}}"
    run("benchmark tiny", "benchmark tiny.yaml")
    run("benchmark other", "benchmark tiny.yaml training_seeds=[3] name=other --json", few)
    left_out = "targets=[linear,portable] support_from=highfreq name=left-out training_seeds=[0]"
    run("benchmark left-out", f"benchmark tiny.yaml sources=[linear,highfreq,portable] {left_out}", few)
    run("benchmark classic", "benchmark classic.yaml")
    run("benchmark misnamed", "benchmark classic.yaml name=tiny")
    run("report pair", "report runs/tiny runs/other --out compared")
    run("report against tiny", "report runs/tiny --against", "U-Net")


def _wrong_calls(recorder: Recorder) -> None:
    """Call commands wrongly, for how they end and what they say."""
    root, panet, unet = recorder.root, _checkpoint("panet"), _checkpoint("unet")
    (root / "damaged.safetensors").write_bytes((root / unet).read_bytes()[:-1000])
    shutil.copytree(root / "annotated", root / "emptied")
    mask = min((root / "emptied" / "masks").iterdir())
    with Image.open(mask) as image:
        size = image.size
    Image.new("L", size).save(mask)
    for words in recorder.inputs["wrong"]:
        recorder.run(f"wrong: {words}", words.replace("PANET", panet).replace("UNET", unet))
    (root / "damaged.safetensors").unlink()


def _benchmark(recorder: Recorder) -> None:
    """Run the benchmark on phantoms, and look at its report in every way."""
    run = recorder.run
    keep = "tracking.identities=keep"
    run("benchmark phantom", "benchmark", str(PHANTOM), keep)
    run("benchmark again", "benchmark", str(PHANTOM), keep)
    run("report table", "report runs/phantom/results.parquet --out reported --json")
    run("report against", "report runs/phantom --against", "PANet")
    run("report misnamed", "report runs/phantom --against", "PANett")


def _checkpoint(name: str) -> str:
    return f"runs/{name}/checkpoint.safetensors"


def _write(path: Path, tree: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
