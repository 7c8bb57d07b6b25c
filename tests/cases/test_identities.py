"""Who is in the images, planted as file names, patients and paths, and looked for in whatever is meant to be shared."""

import csv
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from episodes.errors import UserError
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.checkpoints import load_checkpoint
from fewshot.config import benchmark as benchmark_config
from fewshot.config import data as data_config
from fewshot.config import training as training_config
from fewshot.results.identities import KEY, NAMES, PLACES, Identities, run_identities, without_paths
from tests.cases.conftest import Fewshot
from tests.cli.conftest import configs
from tests.episodes.datasets.made_trees import save_mask
from tests.episodes.made_dicom import gradient, write_dicom
from tests.fewshot.tiny_runs import MODELS, tiny_tree
from tests.fewshot.tracking.offline_wandb import offline

__all__ = ["configs", "offline"]

SURNAME, PATIENT, PLACE = "Muellerowa", "Anna-1962", "hospital-of-the-north"
PLANTED = (SURNAME, PATIENT, PLACE)
SHOWN = r"mine/image-[0-9a-f]{16}"


def renamed(name: str) -> str:
    """Name a file after somebody, at such length that files made from it need a shorter name."""
    return f"{SURNAME} {Path(name).stem:_<235}{Path(name).suffix}"


def clinic_in(folder: Path, scanner: str, n_images: int) -> Path:
    """Write a folder whose place, files and patients are named after people."""
    root = folder / PLACE / "scans"
    write_folder(generate(PhantomSpec(scanner, n_images, size=64)), root)
    for path in sorted(root.glob("*/*.png")):
        path.rename(path.with_name(renamed(path.name)))
    table = root / "metadata.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "image": renamed(row["image"]), "patient": f"{PATIENT} {row['patient']}"})
    return root


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return clinic_in(tmp_path, "portable", 9)


@pytest.fixture
def benchmark(tmp_path: Path, clinic: Path, cache: Path) -> Path:
    """The folder of a benchmark that trains on one such folder, is for another, and names paths wherever it can."""
    tree = tiny_tree(tmp_path, cache=str(cache), runs="runs")
    other = {"reader": "folder", "root": str(clinic_in(tmp_path / "other", "linear", 9))}
    corrections = tmp_path / PLACE / "corrections.yaml"
    corrections.write_text("version: 1\ndataset: folder\n")
    mine = {"reader": "folder", "root": str(clinic), "curation": {"corrections": str(corrections)}}
    tree |= {"datasets": {"mine": mine, "other": other}, "sources": ["other"], "targets": ["mine"]}
    tree |= {"shots": [1], "draws": 2, "draw_depth": 2, "models": {"unet": MODELS["unet"]}, "training_seeds": [0]}
    tree["methods"] = {"U-Net fine-tuned": {"method": "fine-tuned", "model": "unet", "options": {"steps": 1}}}
    (tmp_path / "identities.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "runs" / str(tree["name"])


def found_in(*files: Path) -> set[tuple[str, str]]:
    """List which of the planted words stand in which files or file names."""
    return {
        (word, path.name)
        for path in files
        if path.is_file()
        for word in PLANTED
        for form in (word, word.lower(), word.replace("-", "_"))
        if form.encode() in path.read_bytes() or form.encode("utf-16-le") in path.read_bytes() or form in path.name
    }


def shared_files(folder: Path) -> Iterator[Path]:
    """Yield what of a run's folder is meant to be shared."""
    suffixes, folders = {".html", ".md", ".tex", ".svg", ".safetensors"}, {"wandb", "tables", "figures"}
    for path in filter(Path.is_file, folder.rglob("*")):
        if path.suffix in suffixes or path.name == "summary.json" or folders & set(path.relative_to(folder).parts):
            yield path


def test_a_benchmark_shows_nobody(fewshot: Fewshot, benchmark: Path, tmp_path: Path) -> None:
    ended = fewshot("benchmark", "identities.yaml", "--wandb")
    assert ended.status == 0, ended.err
    files = list(shared_files(benchmark))
    assert {path.suffix for path in files} >= {".html", ".csv", ".tex", ".wandb", ".json", ".safetensors", ".svg"}
    assert found_in(*files) == set()
    page = (benchmark / "report.html").read_text()
    assert "root: (a path)" in page
    shown = set(re.findall(SHOWN, page))
    # The folder knows them, for its owner alone.
    assert found_in(benchmark / "results.parquet", benchmark / NAMES) >= {(SURNAME, NAMES), (PATIENT, NAMES)}
    with (benchmark / NAMES).open(newline="") as file:
        names = {row["pseudonym"]: row["name"] for row in csv.DictReader(file)}
    assert shown
    assert all(names[pseudonym].startswith(f"mine/{SURNAME}") for pseudonym in shown)
    for secret in (KEY, NAMES):
        assert stat.S_IMODE((benchmark / secret).stat().st_mode) == 0o600

    # The same run shows the same pseudonyms again, elsewhere too, and the key stays.
    assert fewshot("report", benchmark, "--out", "sent").status == 0
    assert set(re.findall(SHOWN, (tmp_path / "sent" / "report.html").read_text())) == shown
    assert not {path.name for path in (tmp_path / "sent").rglob("*")} & {KEY, NAMES}
    assert found_in(*(tmp_path / "sent").rglob("*")) == set()
    key = (benchmark / KEY).read_bytes()
    assert not [path for path in files if key in path.read_bytes() or key.hex().encode() in path.read_bytes()]


def test_names_are_kept_where_that_is_asked_for(fewshot: Fewshot, benchmark: Path) -> None:
    ended = fewshot("benchmark", "identities.yaml", "tracking.identities=keep")
    assert ended.status == 0, ended.err
    assert found_in(benchmark / "report.html") >= {(SURNAME, "report.html"), (PLACE, "report.html")}
    assert not (benchmark / KEY).exists()


def test_trainings_and_evaluations_show_nobody(fewshot: Fewshot, clinic: Path, configs: Path) -> None:
    tree = yaml.safe_load((configs / "unet.yaml").read_text())
    tree |= {"datasets": {"mine": {"reader": "folder", "root": str(clinic)}}, "sources": ["mine"], "test_share": 0.3}
    (configs / "unet.yaml").write_text(yaml.safe_dump(tree))
    checkpoint, tuned = configs / "runs" / "unet" / "checkpoint.safetensors", configs / "tuned" / "tuned.safetensors"
    annotated = ("--support", clinic_in(configs / "few", "linear", 6), "--shots", 2)
    data = ("--data", clinic, "-d", "folder", "--wandb", "--out")
    for command in (
        ("train", "unet.yaml", "--wandb"),
        ("finetune", checkpoint, *annotated, "--out", tuned, "steps=1", "--wandb"),
        ("evaluate", checkpoint, *data, "judged"),
        ("evaluate", checkpoint, *data, "adapted", *annotated, "--method", "fine-tuned", "--part", "all", "steps=1"),
    ):
        ended = fewshot(*command)
        assert ended.status == 0, ended.err
        assert "complete without it" not in ended.err
    files = [path for path in configs.rglob("wandb/**/*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".wandb"]) == 4
    assert found_in(checkpoint, tuned, *files) == set()
    assert found_in(configs / "judged" / "images.csv") != set()
    assert load_checkpoint(tuned).facts["finetuned"]["hashes"]


def test_an_onnx_file_shows_nobody(fewshot: Fewshot, clinic: Path, configs: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx, which exports are written with, is not installed")
    checkpoint = fewshot("train", "train.yaml", "train.steps=1").out.strip()
    ended = fewshot("export", checkpoint, "--support", clinic, "--shots", 2, "--out", "model.onnx")
    assert ended.status == 0, ended.err
    content = (configs / "model.onnx").read_bytes()
    assert found_in(configs / "model.onnx") == set()
    facts = {entry.key: entry.value for entry in onnx.load_model_from_string(content).metadata_props}
    assert json.loads(facts["support"]).keys() == {"hashes", "masks"}
    assert str(Path(__file__).parents[2]).encode() not in content  # where the program lies


# Pseudonyms

NAME = st.text(min_size=1, max_size=20)
SECRET = st.binary(min_size=32, max_size=32)


@given(SECRET, SECRET, st.sets(NAME, min_size=1, max_size=50))
def test_pseudonyms_are_stable_by_key_and_never_coincide(key: bytes, other: bytes, names: set[str]) -> None:
    for show in ("image", "patient"):
        first, again, second = (
            {getattr(Identities(secret), show)(name) for name in names} for secret in (key, key, other)
        )
        assert first == again
        assert len(first) == len(names)
        assert first.isdisjoint(second) or key == other


def test_a_hundred_thousand_names_do_not_coincide() -> None:
    shown = Identities(bytes(32))
    assert len({shown.patient(str(number)) for number in range(100_000)}) == 100_000


@given(NAME, SECRET)
def test_nothing_of_a_name_is_in_its_pseudonym(name: str, key: bytes) -> None:
    assert re.fullmatch(r"clinic/image-[0-9a-f]{16}", Identities(key).image(f"clinic/{name}"))
    assert re.fullmatch(r"patient-[0-9a-f]{16}", Identities(key).patient(name))
    assert Identities(None).image(name) == Identities(None).patient(name) == name


def test_each_folder_has_a_key_of_its_own_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    one, same, other = (run_identities(tmp_path / name) for name in ("a", "a", "b"))
    assert one.image("d/x") == same.image("d/x") != other.image("d/x")
    assert repr(one.key) not in repr(one)
    assert [path.name for path in (tmp_path / "a").iterdir()] == [KEY]
    (tmp_path / "a" / KEY).write_bytes(b"short")
    with pytest.raises(UserError, match=r"identities\.key: is no key of 32 bytes; restore it, or delete it"):
        run_identities(tmp_path / "a")


def test_a_folder_that_cannot_be_written_gets_other_pseudonyms_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    one, other = (run_identities(tmp_path / "file" / "run") for _ in range(2))
    assert one.patient("x") != other.patient("x")
    assert "pseudonyms will be others next time" in caplog.text


MODELS_OF_CONFIGS = {
    name: value
    for module in (benchmark_config, data_config, training_config)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, BaseModel)
}


def path_keys(kind: type[BaseModel]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        if "Path" in str(field.annotation):
            yield name
        for inner in re.findall(r"fewshot\.config\.\w+\.(\w+)", str(field.annotation)):
            yield from path_keys(MODELS_OF_CONFIGS[inner])


def test_every_path_of_a_configuration_is_known_to_be_one() -> None:
    """A key to come whose value is a path is to be hidden as well."""
    kinds = (training_config.TrainConfig, benchmark_config.BenchmarkConfig)
    assert {key for kind in kinds for key in path_keys(kind)} == PLACES


@given(st.sampled_from(sorted(PLACES)), NAME)
def test_paths_are_left_out_of_settings(key: str, path: str) -> None:
    tree = {"datasets": {"a": {key: path, "reader": "folder"}}, "steps": [1, {"weights": f"{path}.safetensors"}]}
    assert without_paths(tree) == {
        "datasets": {"a": {key: "(a path)", "reader": "folder"}},
        "steps": [1, {"weights": "(a path)"}],
    }


# Names within the picture


def test_names_in_pictures_are_announced_by_every_command_once(fewshot: Fewshot, configs: Path) -> None:
    for number, said in enumerate(("YES", "YES", "NO")):
        picture = np.roll(gradient(48, 64), 9 * number, axis=1)
        file = configs / "scans" / "images" / f"scan{number}.dcm"
        write_dicom(file, picture, patient=f"P{number}", facts={"BurnedInAnnotation": said})
        save_mask(configs / "scans" / "masks" / f"scan{number}.png", (5, 5, 20 + number, 25), size=(48, 64))
    checkpoint = fewshot("train", "unet.yaml", "train.steps=1").out.strip()
    for command, warned in (
        (("data", "check", "scans", "-d", "folder"), 1),
        (("data", "init", "scans", "--out", "scans.yaml"), 1),
        (("data", "prepare", "scans", "-d", "folder", "--cache", "cache"), 1),
        (("data", "show", "scans", "-d", "folder", "--out", "shown"), 1),
        (("predict", checkpoint, "--images", "scans/images", "--out", "masks"), 1),
        (("finetune", checkpoint, "--support", "scans", "--out", "tuned.safetensors", "steps=1"), 1),
        (("evaluate", checkpoint, "--data", "scans", "-d", "folder", "--out", "judged"), 1),
        (("predict", checkpoint, "--images", "scans/images/scan2.dcm", "--out", "other"), 0),
    ):
        ended = fewshot(*command)
        assert ended.status == 0, ended.err
        count = ended.message.count("names are written into the pictures of 2 DICOM files")
        assert (count, ended.err.count("BurnedInAnnotation: YES")) == (warned, warned), command
