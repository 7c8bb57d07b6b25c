"""Every command on small phantoms: what it prints, what it leaves behind, and what a second call does."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from episodes.curation.policy import Dropped
from episodes.datasets import read_dataset
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from episodes.sampling.manifest import EPISODES
from episodes.storage.store import Store
from fewshot.checkpoints import load_checkpoint, load_network
from fewshot.cli.data import SHOWN, describe_dropped
from fewshot.config.data import DataConfig, SampleConfig
from fewshot.config.parsing import load_config, parse_config
from fewshot.results.rows import read_table
from fewshot.stores import open_collection, open_store
from tests.cli.conftest import Fewshot
from tests.fewshot.tiny_runs import METHODS, PANET, PHANTOMS, silent

N_IMAGES = 6


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 6 phantoms, 256x256 as the command writes them."""
    root = tmp_path_factory.mktemp("phantoms") / "mine"
    write_folder(generate(PhantomSpec("linear", N_IMAGES)), root)
    return root


# data


@pytest.mark.parametrize("layout", ["folder", "busi", "bus_uclm", "udiat"])
def test_generate_writes_what_the_reader_of_that_layout_reads(fewshot: Fewshot, tmp_path: Path, layout: str) -> None:
    # The first ten are of four patients: two with benign lesions, one with malignant ones, one without.
    ended = fewshot("data", "generate", "out", "--scanner", "linear", "--images", 10, "--layout", layout)
    assert (ended.status, ended.out) == (0, "out\n")
    labels = Counter(record.label for record in read_dataset(layout, tmp_path / "out"))
    lesions = {"benign": 7, "malignant": 2}
    assert labels == (lesions if layout == "udiat" else {**lesions, "normal": 1})


def test_generate_depends_on_the_seed_alone(fewshot: Fewshot, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        fewshot("data", "generate", name, "--scanner", "portable", "--images", 1, "--seed", seed)
    contents = [next((tmp_path / name / "images").iterdir()).read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]


def test_prepare_decodes_once(fewshot: Fewshot, phantoms: Path, tmp_path: Path) -> None:
    words = ("data", "prepare", phantoms, "--dataset", "folder", "--size", 64, "--cache", tmp_path / "cache")
    ended = fewshot(*words)
    folder, _, count = ended.out.strip().rpartition(": ")
    assert (ended.status, count) == (0, f"{N_IMAGES} images")
    before = {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()}
    assert len(before) == 3
    assert fewshot(*words).out == ended.out
    assert {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()} == before


def test_prepare_says_what_is_left_out_and_why(fewshot: Fewshot, phantoms: Path, tmp_path: Path) -> None:
    names = sorted(path.stem for path in (phantoms / "images").iterdir())
    (tmp_path / "good.txt").write_text("\n".join(names[:2]))
    (tmp_path / "mistakes.yaml").write_text(f"version: 1\ndataset: folder\nexclude: {{{names[0]}: blurred}}\n")
    options = (
        "--curated",
        tmp_path / "good.txt",
        "--corrections",
        tmp_path / "mistakes.yaml",
        "--duplicates",
        "drop-all",
    )
    words = ("data", "prepare", phantoms, "-d", "folder", "--size", 64, "--cache", tmp_path / "cache")
    ended = fewshot(*words, *options)
    lines = ended.out.splitlines()
    assert ended.status == 0
    assert lines[:3] == [
        "left out, 1: excluded by corrections",
        f"  folder/{names[0]}: blurred",
        f"left out, {N_IMAGES - 2}: not on the curated list",
    ]
    assert lines[3:-1] == [f"  folder/{name}" for name in names[2:]]
    assert ended.out.endswith(": 1 images\n")


def test_prepare_names_the_first_few_of_many(tmp_path: Path) -> None:
    dropped = tuple(Dropped(f"made/{number:02}", "Doppler overlay") for number in range(SHOWN + 3))
    lines = describe_dropped(Store(tmp_path, (8, 8), (), (), {}, dropped, {}))
    assert lines[0] == f"left out, {SHOWN + 3}: Doppler overlay"
    assert lines[1:-1] == [f"  made/{number:02}" for number in range(SHOWN)]
    assert lines[-1] == f"  and 3 more, which are in {tmp_path}/index.json"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--doppler", "drop"), "folder: does not state which images have a Doppler overlay"),
        (("--curated", "nowhere.txt"), "nowhere.txt: there is no such file; check the path of the curated list"),
        (("--corrections", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
    ],
)
def test_a_policy_that_does_not_fit_is_one_line(
    fewshot: Fewshot, phantoms: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    ended = fewshot("data", "prepare", phantoms, "-d", "folder", "--cache", tmp_path / "cache", *options)
    assert ended.status in (1, 2)
    assert message in ended.message


@pytest.mark.parametrize(("option", "name"), [((), "folder"), (("--name", "my scanner"), "my scanner")])
def test_a_prepared_store_is_the_one_that_configurations_use(
    fewshot: Fewshot, phantoms: Path, tmp_path: Path, option: tuple[str, ...], name: str
) -> None:
    cache = tmp_path / "cache"
    ended = fewshot("data", "prepare", phantoms, "-d", "folder", "--size", 64, "--cache", cache, *option)
    tree = {"datasets": {name: {"reader": "folder", "root": phantoms}}, "image_size": 64, "cache": cache}
    store = open_store(parse_config(tree, DataConfig, "config"), name, silent())
    assert ended.out.startswith(f"{store.folder}: ")
    assert len(list((cache / "stores").iterdir())) == 1


# episodes


def test_sample_writes_a_manifest_that_reads_back(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("episodes", "sample", "episodes.yaml", "out/tasks.jsonl", "seed=7", "--count", 20)
    assert (ended.status, ended.out) == (0, "out/tasks.jsonl: 20 episodes\n")
    config = load_config(configs / "episodes.yaml", SampleConfig)
    specs = EPISODES.read(configs / "out" / "tasks.jsonl", open_collection(config, PHANTOMS, silent()).records)
    assert len(specs) == 20
    assert {spec.classes for spec in specs} == {("benign", "malignant")}
    header = json.loads((configs / "out" / "tasks.jsonl").read_text().splitlines()[0])
    assert (header["seed"], header["n_shot"], header["classes"]) == (7, 1, [["benign", "malignant"]])


def test_sample_overwrites_only_when_asked_to(fewshot: Fewshot, configs: Path) -> None:
    words = ("episodes", "sample", "episodes.yaml", "tasks.jsonl", "--count", 5)
    fewshot(*words)
    first = (configs / "tasks.jsonl").read_bytes()
    refused = fewshot(*words, "seed=1")
    assert refused.status == 1
    assert "tasks.jsonl: exists already; choose another name, or replace it with --overwrite" in refused.message
    assert (configs / "tasks.jsonl").read_bytes() == first
    assert fewshot(*words, "seed=1", "--overwrite").status == 0
    assert (configs / "tasks.jsonl").read_bytes() != first
    assert fewshot(*words, "--overwrite").status == 0
    assert (configs / "tasks.jsonl").read_bytes() == first


# train and finetune


def test_train_writes_a_checkpoint_and_prints_nothing_but_its_path(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("train", "train.yaml", "train.steps=2")
    assert (ended.status, ended.out) == (0, "runs/panet/checkpoint.safetensors\n")
    checkpoint = load_checkpoint(configs / ended.out.strip())
    assert checkpoint.facts["train"]["steps"] == 2
    losses = [json.loads(line) for line in (configs / "runs" / "panet" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == [1, 2]
    assert {"loss", "segmentation", "alignment"} <= set(losses[0])
    assert sorted(path.name for path in (configs / "runs" / "panet").iterdir()) == [
        "checkpoint.safetensors",
        "data.json",
        "history.csv",
        "history.png",
        "metrics.jsonl",
        "places.json",
        "seconds.json",
    ]


def test_train_does_not_repeat_a_finished_training_nor_mix_two(fewshot: Fewshot, configs: Path) -> None:
    path = configs / fewshot("train", "train.yaml").out.strip()
    before, time = path.read_bytes(), path.stat().st_mtime_ns
    again = fewshot("train", "train.yaml")
    assert again.status == 0
    assert "panet is finished" in again.err
    assert path.stat().st_mtime_ns == time
    other = fewshot("train", "train.yaml", "seed=1")
    assert other.status == 1
    assert "the training there differs in seed; give another name" in other.message
    assert path.read_bytes() == before
    assert fewshot("train", "train.yaml", "seed=1", "name=second").out == "runs/second/checkpoint.safetensors\n"


def test_finetune_goes_on_from_a_checkpoint(fewshot: Fewshot, configs: Path) -> None:
    lesions = configs / "lesions"
    fewshot("data", "generate", lesions, "--scanner", "linear", "--images", 3)
    trained = fewshot("train", "unet.yaml").out.strip()
    words = ("finetune", trained, "--support", lesions, "--shots", 2, "--out", "adapted.safetensors")
    ended = fewshot(*words, "steps=2")
    assert (ended.status, ended.out) == (0, "adapted.safetensors\n")
    network, loaded = load_network(configs / "adapted.safetensors")
    assert loaded.facts["finetuned"]["steps"] == 2
    assert len(loaded.facts["finetuned"]["hashes"]) == 2
    assert type(network).__name__ == "UNet"
    refused = fewshot(*words)
    assert refused.status == 1
    assert "adapted.safetensors: exists already" in refused.message


def test_finetune_refuses_a_few_shot_model(fewshot: Fewshot, configs: Path, phantoms: Path) -> None:
    trained = fewshot("train", "train.yaml").out.strip()
    ended = fewshot("finetune", trained, "--support", phantoms, "--out", "adapted.safetensors")
    assert ended.status == 1
    assert f"{trained}: holds a PANet; only a supervised model is fine-tuned" in ended.message


# benchmark


def test_benchmark_prints_a_table_an_answer_and_where_the_results_are(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("benchmark", "benchmark.yaml")
    assert ended.status == 0, ended.err
    assert all(f"│ {row} " in ended.out for row in METHODS)
    assert "2 annotated images" in ended.out.splitlines()[0]
    files = [Path(name) for name in ended.out.splitlines()[-1].removeprefix("Results: ").split(", ")]
    assert [path.name for path in files] == ["results.parquet", "report.html", "summary.json", "summary.md"]
    assert all(path.is_file() for path in files)
    assert set(read_table(files[0])["method"].to_pylist()) == set(METHODS)
    trained = ("train: panet-seed0", "train: unet-seed0")
    for step in ("data: linear", *trained, "encode: portable, panet-untrained", "evaluate"):
        assert f"{step}: " in ended.err
    again = fewshot("benchmark", "benchmark.yaml")
    assert (again.status, again.out) == (0, ended.out)
    assert "evaluate" not in again.err


SMALL = ("methods={empty: {method: empty}, PANet: {method: prototypes, model: panet}}", "shots=[1]", "draws=1")
UNTRAINED = f"models={json.dumps({'panet': PANET})}"


def test_benchmark_prints_json_on_its_own(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("benchmark", "benchmark.yaml", "--json", *SMALL, UNTRAINED)
    summary = json.loads(ended.out)
    assert [(row["method"], row["shot"]) for row in summary["rows"]] == [("empty", 0), ("PANet", 1)]
    assert summary["rows"][0]["dice"]["estimate"] == 0
    assert set(summary["answers"]) == {"portable"}
    assert json.loads((configs / "runs" / "tiny" / "summary.json").read_text()) == summary


def test_benchmark_overwrites_only_when_asked_to(fewshot: Fewshot, configs: Path) -> None:
    assert fewshot("benchmark", "benchmark.yaml", *SMALL, UNTRAINED).status == 0
    refused = fewshot("benchmark", "benchmark.yaml", *SMALL, UNTRAINED, "seed=1")
    assert refused.status == 1
    assert "the run there differs in seed; choose another name, or add --overwrite" in refused.message
    assert fewshot("benchmark", "benchmark.yaml", *SMALL, UNTRAINED, "seed=1", "--overwrite").status == 0
    assert yaml.safe_load((configs / "runs" / "tiny" / "config.yaml").read_text())["seed"] == 1
    assert fewshot("benchmark", "benchmark.yaml", *SMALL, UNTRAINED, "name=other").status == 0


OWN = """
import torch
from episodes.datasets import folder


def read(root):
    return folder.read(root)


class Everything:
    uses_support = False

    def __init__(self, ingredients):
        pass

    def adapt(self, support):
        return None

    def segment(self, images, adapted):
        return torch.tensor([0.0, 1.0])[:, None, None].expand(len(images), 2, *images.shape[-2:])
"""


def test_a_method_and_a_reader_from_a_file_in_the_working_folder(
    fewshot: Fewshot, configs: Path, phantoms: Path
) -> None:
    (configs / "my_parts.py").write_text(OWN)
    fewshot("data", "generate", "mine", "--scanner", "linear", "--images", 12)
    ended = fewshot(
        "benchmark",
        "benchmark.yaml",
        "datasets.mine={reader: my_parts:read, root: mine}",
        "targets=[mine]",
        "methods={all: {method: my_parts:Everything}}",
        "models={}",
        "--json",
    )
    assert ended.status == 0, ended.err
    (row,) = json.loads(ended.out)["rows"]
    assert (row["target"], row["method"], row["shot"]) == ("mine", "all", 0)
    assert row["scores"]["recall"] == 1
    assert row["scores"]["false_positive_area"] == 1
    assert fewshot("data", "check", "mine", "--dataset", "my_parts:read").status == 0
