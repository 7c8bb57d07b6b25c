"""`fewshot data show` and `fewshot data split`, and what goes on from a split."""

import json
import re
from pathlib import Path

import pytest
import yaml

from fewshot.checkpoints import load_checkpoint
from tests.cli.conftest import Fewshot
from tests.fewshot.plots.pictures import pixels
from tests.fewshot.tiny_runs import PHANTOMS

# split


def test_split_writes_parts_and_describes_them(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("data", "split", "episodes.yaml", "out/split.json", "--seed", 4)
    assert ended.status == 0, ended.err
    head, *lines = ended.out.splitlines()
    assert head == "out/split.json"
    assert [line.split(":")[0] for line in lines] == ["  train", "  val", "  test"]
    content = json.loads((configs / "out" / "split.json").read_text())
    assert content["seed"] == 4
    assert [len(content["parts"][part]) for part in ("train", "val", "test")] == [
        int(re.findall(r"(\d+) images", line)[0]) for line in lines
    ]
    assert sum(map(len, content["parts"].values())) == 48


def test_split_writes_a_file_for_each_fold(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("data", "split", "train.yaml", "folds.json", "--folds", 2)
    assert ended.status == 0, ended.err
    tested = [json.loads((configs / f"folds-fold{fold}.json").read_text())["parts"]["test"] for fold in range(2)]
    assert not set(tested[0]) & set(tested[1])
    assert sum(map(len, tested)) == PHANTOMS["linear"]["phantom"]["n_images"]


def test_split_takes_any_parts_and_overrides(fewshot: Fewshot, configs: Path) -> None:
    only = "datasets={linear: {phantom: {scanner: linear, n_images: 12, size: 64}}}"
    ended = fewshot("data", "split", "episodes.yaml", "ab.json", only, "--parts", "a=0.5, b=5e-1")
    assert ended.status == 0, ended.err
    content = json.loads((configs / "ab.json").read_text())
    assert set(content["parts"]) == {"a", "b"}
    assert all(record.startswith("linear/") for ids in content["parts"].values() for record in ids)


def test_split_overwrites_only_when_asked_to(fewshot: Fewshot, configs: Path) -> None:
    words = ("data", "split", "episodes.yaml", "split.json")
    fewshot(*words)
    before = (configs / "split.json").read_bytes()
    refused = fewshot(*words, "--seed", 1)
    assert (refused.status, refused.out) == (1, "")
    assert "split.json: exists already; choose another name, or replace it with --overwrite" in refused.message
    assert (configs / "split.json").read_bytes() == before
    assert fewshot(*words, "--seed", 1, "--overwrite").status == 0
    assert (configs / "split.json").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("--folds 2 --official 5", 2, "--folds and --official are two ways to split; give one"),
        ("--official 5 --seed 1", 2, "--seed is for what is drawn, and official folds are not; leave it out"),
        ("--official 7", 2, "'7' is not one of '5', '10'"),
        ("--folds 1", 2, "'--folds'"),
        ("--parts train=0.7,val=0.2", 2, "must be positive and add up to 1"),
        ("--parts train=0.7,train=0.3", 2, "'train=0.3': expected another NAME=SHARE"),
        ("--parts train", 2, "'train': expected another NAME=SHARE, such as train=0.7"),
        ("--parts train=1.2.3", 2, "'1.2.3' is no number"),
        ("--official 5", 1, "highfreq, linear, portable: no official partition into 5 folds"),
        ("--folds 999", 1, "got no patient"),
    ],
)
def test_what_cannot_be_split_is_said(fewshot: Fewshot, configs: Path, words: str, status: int, message: str) -> None:
    ended = fewshot("data", "split", "episodes.yaml", "split.json", *words.split(" ", 3))
    assert (ended.status, ended.out) == (status, "")
    assert message in ended.message
    assert "Traceback" not in ended.err
    assert not list(configs.glob("split*.json"))


def test_a_benchmark_s_configuration_is_none_to_split(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("data", "split", "benchmark.yaml", "split.json")
    assert ended.status == 2
    assert "benchmark.yaml: methods: unknown key" in ended.message


def test_a_training_takes_a_split_and_evaluate_finds_its_test_part(fewshot: Fewshot, configs: Path) -> None:
    fewshot("data", "generate", "mine", "--scanner", "linear", "--images", 24)
    tree = yaml.safe_load((configs / "unet.yaml").read_text())
    tree |= {"datasets": {"mine": {"reader": "folder", "root": "mine"}}, "sources": ["mine"]}
    (configs / "mine.yaml").write_text(yaml.safe_dump(tree))
    assert fewshot("data", "split", "mine.yaml", "split.json", "--parts", "train=0.5,test=0.5").status == 0
    trained = fewshot("train", "mine.yaml", "split=split.json", "train.steps=1")
    assert trained.status == 0, trained.err
    tested = json.loads((configs / "split.json").read_text())["parts"]["test"]
    assert len(load_checkpoint(configs / trained.out.strip()).facts["test_images"]) == len(tested)
    judged = fewshot("evaluate", trained.out.strip(), "--data", "mine", "-d", "folder", "--out", "judged")
    assert judged.status == 0, judged.err
    rows = (configs / "judged" / "images.csv").read_text().splitlines()
    assert len(rows) == 1 + len(tested)
    (configs / "keep.txt").write_text("\n".join(record.removeprefix("mine/") for record in tested))
    fewer = "datasets.mine.curation.curated=keep.txt"
    other = fewshot("train", "mine.yaml", "split=split.json", "train.steps=1", "name=other", fewer)
    assert (other.status, other.out) == (1, "")
    assert f"split.json: not all of its records are among the {len(tested)} at hand" in other.message


def test_a_damaged_split_is_said(fewshot: Fewshot, configs: Path) -> None:
    (configs / "split.json").write_text("{")
    ended = fewshot("train", "train.yaml", "split=split.json")
    assert (ended.status, ended.out) == (1, "")
    assert "split.json: not a split, or a damaged one; write it again" in ended.message


# show


def test_show_draws_a_dataset_and_its_split(fewshot: Fewshot, configs: Path) -> None:
    fewshot("data", "generate", "mine", "--scanner", "linear", "--images", 12)
    (configs / "data.yaml").write_text(yaml.safe_dump({"datasets": {"own": {"reader": "folder", "root": "mine"}}}))
    fewshot("data", "split", "data.yaml", "split.json", "--parts", "train=0.5,test=0.5")
    words = ("data", "show", "mine", "-d", "folder", "--out", "figures", "--count", 6)
    ended = fewshot(*words, "--name", "own", "--split", "split.json")
    assert ended.status == 0, ended.err
    assert ended.out == "figures/contact_sheet.png\nfigures/classes.png\nfigures/splits.png\n"
    assert all(pixels(configs / line).std() > 10 for line in ended.out.splitlines())
    refused = fewshot(*words)
    assert (refused.status, refused.out) == (1, "")
    assert "figures/contact_sheet.png: exists already; choose another name" in refused.message
    again = fewshot(*words, "--name", "own", "--overwrite", "--seed", 1)
    assert again.out == "figures/contact_sheet.png\nfigures/classes.png\n"
    other = fewshot(*words, "--split", "split.json", "--overwrite")
    assert "not all of its records are among the 12 at hand" in other.message


def test_show_follows_a_policy(fewshot: Fewshot, configs: Path) -> None:
    fewshot("data", "generate", "mine", "--scanner", "linear", "--images", 12)
    (configs / "keep.txt").write_text("linear_0000\nlinear_0001\n")
    ended = fewshot("data", "show", "mine", "-d", "folder", "--out", "few", "--curated", "keep.txt")
    assert ended.status == 0, ended.err
    assert "10 of 12 images are left out" in ended.err
    whole = fewshot("data", "show", "mine", "-d", "folder", "--out", "all")
    assert whole.status == 0
    assert (
        pixels(configs / "few" / "contact_sheet.png").shape[0] < pixels(configs / "all" / "contact_sheet.png").shape[0]
    )
