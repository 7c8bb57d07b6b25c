"""The benchmark from the configuration to the results table, on three small phantom scanners."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

import fewshot.benchmark.evaluation
import fewshot.training.run
from episodes.errors import UserError
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from episodes.sampling.draws import SupportDraw
from episodes.sampling.episode import image_tensor, load_support
from episodes.sampling.manifest import DRAWS
from episodes.storage.store import Collection, Store
from fewshot.benchmark.run import run_benchmark
from fewshot.checkpoints import load_network
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.parsing import parse_config
from fewshot.inference.target import EncodedTarget, Task, evaluate
from fewshot.methods.contract import Ingredients, Method, Sources, build_method
from fewshot.networks import seeded_network
from fewshot.results.rows import PIXELS, SCORES, read_table
from fewshot.stores import open_collection, open_store
from tests.fewshot.tiny_runs import METHODS, MODELS, PANET, PHANTOMS, silent, tiny_benchmark

CPU = torch.device("cpu")
WITHOUT_SUPPORT = ("empty", "centre-ellipse", "PANet source prototypes", "U-Net")
WITH_SUPPORT = ("PANet untrained", "PANet", "U-Net fine-tuned")
FLOORS = {"methods": {"empty": {"method": "empty"}}, "models": {}}
UNTRAINED = {"methods": {"PANet": {"method": "prototypes", "model": "panet"}}, "models": {"panet": PANET}}


class Run:
    """A finished run, and what it was made of."""

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = config
        self.folder = run_benchmark(config, silent())
        self.table = read_table(self.folder / "results.parquet")
        self.rows: list[dict[str, Any]] = self.table.to_pylist()
        self.store: Store = open_store(config, config.targets[0], silent())
        self.draws: list[SupportDraw] = DRAWS.read(self.folder / f"draws-{config.targets[0]}.jsonl", self.store.records)

    def method(self, row: str) -> Method:
        """The method of a row, with the network that the run trained for it."""
        config = self.config.methods[row]
        network = None
        if config.model is not None:
            path = self.folder / "models" / f"{config.model}-seed0" / "checkpoint.safetensors"
            untrained = seeded_network(self.config.encoder, self.config.models[config.model], 0).eval()
            network = load_network(path)[0] if path.is_file() else untrained
        sources = open_collection(self.config, self.config.sources, silent())
        return build_method(config.method, config.options, Ingredients(network, Sources(sources, sources.records), CPU))

    def cell(self, row: str, shot: int, draw: int) -> dict[str, dict[str, Any]]:
        """A cell's rows by query."""
        own = [r for r in self.rows if (r["method"], r["shot"], r["draw"]) == (row, shot, draw)]
        return {r["query"]: r for r in own}

    def support(self, shot: int, draw: int) -> tuple[str, ...]:
        return self.draws[draw].support[:shot] if draw >= 0 else ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return Run(tiny_benchmark(folder))


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Fail if one of these is called."""

    def called(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    for name in names:
        monkeypatch.setattr(name, called)


# The table


def test_the_table_has_every_method_shot_draw_and_query_once(run: Run) -> None:
    everything = [record.id for record in run.store.records]
    without = [(row, 0, -1, query) for row in WITHOUT_SUPPORT for query in everything]
    adapted = [
        (row, shot, draw, query)
        for row in WITH_SUPPORT
        for shot in (1, 2)
        for draw in (0, 1)
        for query in run.draws[draw].queries
    ]
    found = Counter((row["method"], row["shot"], row["draw"], row["query"]) for row in run.rows)
    assert found == Counter(without + adapted)
    assert {(row["target"], row["seed"]) for row in run.rows} == {("portable", 0)}


def test_no_query_is_of_a_patient_of_the_support_set(run: Run) -> None:
    patient_of = {record.id: record.patient_id for record in run.store.records}
    assert {row["query"]: row["patient"] for row in run.rows} == patient_of
    for draw in run.draws:
        annotated = {patient_of[record_id] for record_id in draw.support}
        asked = {row["patient"] for row in run.rows if row["draw"] == draw.index}
        assert len(annotated) == 2
        assert asked == set(patient_of.values()) - annotated


def test_queries_are_described_as_their_records(run: Run) -> None:
    for row in run.rows:
        position = [record.id for record in run.store.records].index(row["query"])
        assert row["label"] == run.store.records[position].label
        assert row["lesion"] == bool(run.store.label_maps[position].any()) == (row["label"] != "normal")


@pytest.mark.parametrize(
    ("row", "shot", "draw"),
    [
        ("centre-ellipse", 0, -1),
        ("PANet source prototypes", 0, -1),
        ("PANet untrained", 1, 0),
        ("PANet", 2, 1),
        ("U-Net", 0, -1),
        ("U-Net fine-tuned", 2, 0),
    ],
)
def test_scores_are_those_of_the_masks_that_the_method_gives(run: Run, row: str, shot: int, draw: int) -> None:
    masks = masks_one_by_one(run.method(row), run.store, run.support(shot, draw))
    cell = run.cell(row, shot, draw)
    for record, mask, label_map in zip(run.store.records, masks, run.store.label_maps[:], strict=True):
        if record.id not in cell:
            continue
        found, truth, predicted = cell[record.id], label_map.ravel() > 0, mask.ravel()
        if truth.any():
            expected = {
                "dice": f1_score(truth, predicted, zero_division=0.0),
                "iou": jaccard_score(truth, predicted, zero_division=0.0),
                "recall": recall_score(truth, predicted),
                "precision": precision_score(truth, predicted, zero_division=0.0),
            }
            expected["detected"] = float(expected["iou"] > 0.5)
            assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
            assert np.isnan(found["false_positive"])
        else:
            assert found["false_positive_area"] == pytest.approx(predicted.mean(), abs=1e-12)
            assert found["false_positive"] == float(predicted.mean() >= 0.001)
            assert np.isnan(found["dice"])


def masks_one_by_one(method: Method, store: Store, support: Sequence[str]) -> list[NDArray[np.bool_]]:
    """Every image of the store segmented on its own, from its pixels."""
    with torch.inference_mode():
        adapted = method.adapt(load_support(Collection([store]), [support]) if support else None)
        images = [image_tensor(store.images[[row]]) for row in range(len(store.records))]
        logits = [method.segment(image, adapted)[0] for image in images]
    return [(scores.argmax(0) > 0).numpy() for scores in logits]


@pytest.mark.parametrize("row", METHODS)
def test_features_computed_once_give_the_scores_of_every_episode_on_its_own(run: Run, row: str) -> None:
    method, target = run.method(row), EncodedTarget(run.store, CPU)
    draw = run.draws[1]
    support = draw.support[:2] if method.uses_support else ()
    cached = evaluate(method, target, Task(support, draw.queries))
    alone = [evaluate(method, target, Task(support, (query,)), cached=False)[0] for query in draw.queries]
    for name in (*SCORES, *PIXELS):
        expected = [one.columns()[name] for one in alone]
        assert [one.columns()[name] for one in cached] == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_a_run_says_what_it_was_made_of(run: Run) -> None:
    saved = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert parse_config(saved, BenchmarkConfig, "saved") == run.config
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == version("torch")
    assert set(json.loads((run.folder / "inputs.json").read_text())) == {f"datasets.{name}" for name in PHANTOMS}


# No shots, and controls

PRIOR = {**PANET, "options": {"prior": True}}
CONTROLS: dict[str, Any] = {
    "PANet": {"method": "prototypes", "model": "panet"},
    "prior": {"method": "prototypes", "model": "prior"},
    "prior swapped": {"method": "prototypes", "model": "prior", "control": "swapped"},
    "prior emptied": {"method": "prototypes", "model": "prior", "control": "emptied"},
    "U-Net fine-tuned": METHODS["U-Net fine-tuned"],
    "swapped alone": {**METHODS["U-Net fine-tuned"], "options": {"steps": 3}, "control": "swapped"},
    "empty": {"method": "empty"},
}


@pytest.fixture(scope="module")
def controls(folder: Path) -> Run:
    models = {"panet": PANET, "prior": PRIOR, "unet": {**MODELS["unet"], "train": None}}
    return Run(tiny_benchmark(folder, name="controls", shots=[0, 1, 2], methods=CONTROLS, models=models))


def test_zero_shots_have_a_row_where_a_method_can_do_without_a_support_set(controls: Run) -> None:
    found = {(row["method"], row["shot"], row["draw"]) for row in controls.rows}
    drawn = {(row, shot, draw) for row in CONTROLS for shot in (1, 2) for draw in (0, 1) if row != "empty"}
    assert found == drawn | {("empty", 0, -1), ("prior", 0, -1)}
    everything = {record.id for record in controls.store.records}
    assert controls.cell("prior", 0, -1).keys() == everything


def test_zero_shots_are_scored_without_a_support_set(controls: Run) -> None:
    masks = masks_one_by_one(controls.method("prior"), controls.store, ())
    assert_dice_of(controls.cell("prior", 0, -1), masks, controls.store)


def assert_dice_of(cell: dict[str, dict[str, Any]], masks: Sequence[NDArray[np.bool_]], store: Store) -> None:
    for record, mask, label_map in zip(store.records, masks, store.label_maps[:], strict=True):
        if record.has_lesion and record.id in cell:
            expected = f1_score(label_map.ravel() > 0, mask.ravel(), zero_division=0.0)
            assert cell[record.id]["dice"] == pytest.approx(expected, abs=1e-12)


def test_controls_say_what_they_are_and_of_which_row(controls: Run) -> None:
    found = {row["method"]: (row["control"], row["control_of"]) for row in controls.rows}
    assert found == {
        "PANet": (None, None),
        "prior": (None, None),
        "prior swapped": ("swapped", "prior"),
        "prior emptied": ("emptied", "prior"),
        "U-Net fine-tuned": (None, None),
        "swapped alone": ("swapped", None),
        "empty": (None, None),
    }


@pytest.mark.parametrize("shot", [1, 2])
@pytest.mark.parametrize("row", ["prior swapped", "prior emptied", "swapped alone"])
def test_a_control_is_scored_on_the_same_draws_with_other_masks(controls: Run, row: str, shot: int) -> None:
    draw, method, collection = controls.draws[1], controls.method(row), Collection([controls.store])
    support = load_support(collection, [draw.support[:shot]])
    others = load_support(collection, [[draw.support[1], draw.support[0]][:shot]])
    masks = torch.zeros_like(support.masks) if row == "prior emptied" else others.masks
    with torch.inference_mode():
        adapted = method.adapt(replace(support, masks=masks))
        logits = [method.segment(image_tensor(controls.store.images[[i]]), adapted)[0] for i in range(24)]
    cell = controls.cell(row, shot, 1)
    assert cell.keys() == set(draw.queries)
    assert_dice_of(cell, [(scores.argmax(0) > 0).numpy() for scores in logits], controls.store)


# Interrupted, repeated, refused


def test_a_run_interrupted_in_evaluation_ends_with_the_same_bytes(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run.config.model_copy(update={"runs": tmp_path})
    calls: list[Sequence[str]] = []

    def failing_at(last: int) -> Callable[..., Any]:
        def counted(method: Method, target: EncodedTarget, task: Task, **options: Any) -> Any:
            calls.append(task.support)
            if len(calls) == last:
                raise KeyboardInterrupt
            return evaluate(method, target, task, **options)

        return counted

    n_cells = len(WITHOUT_SUPPORT) + 4 * len(WITH_SUPPORT)
    monkeypatch.setattr(fewshot.benchmark.evaluation, "evaluate", failing_at(8))
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(config, silent())
    assert not (tmp_path / "tiny" / "results.parquet").exists()
    monkeypatch.setattr(fewshot.benchmark.evaluation, "evaluate", failing_at(0))
    resumed = run_benchmark(config, silent())
    assert len(calls) == n_cells + 1  # the interrupted cell twice, every other once
    assert (resumed / "results.parquet").read_bytes() == (run.folder / "results.parquet").read_bytes()


def test_a_run_interrupted_in_training_ends_with_the_same_bytes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run.config.model_copy(update={"runs": tmp_path})
    log = fewshot.results.history.Tracker.log

    def failing(tracker: fewshot.results.history.Tracker, step: int, values: dict[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt
        log(tracker, step, values)

    with monkeypatch.context() as patch:
        patch.setattr(fewshot.results.history.Tracker, "log", failing)
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(config, silent())
    resumed = run_benchmark(config, silent())
    assert (resumed / "results.parquet").read_bytes() == (run.folder / "results.parquet").read_bytes()
    for model in ("panet", "unet"):
        losses = [folder / "models" / f"{model}-seed0" / "metrics.jsonl" for folder in (resumed, run.folder)]
        assert losses[0].read_text() == losses[1].read_text()


def test_a_finished_run_is_not_computed_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run.folder / "results.parquet").read_bytes()
    forbid(monkeypatch, "fewshot.inference.target.evaluate", "fewshot.training.engine.fit")
    assert run_benchmark(run.config, silent()) == run.folder
    assert (run.folder / "results.parquet").read_bytes() == before


def test_another_configuration_is_refused_unless_overwritten(folder: Path) -> None:
    first = run_benchmark(tiny_benchmark(folder, name="twice", **FLOORS), silent())
    other = tiny_benchmark(folder, name="twice", seed=1, image_size=32, **FLOORS)
    before = (first / "results.parquet").read_bytes()
    with pytest.raises(UserError, match=r"twice: the run there differs in image_size, seed.*--overwrite"):
        run_benchmark(other, silent())
    assert (first / "results.parquet").read_bytes() == before
    replaced = run_benchmark(other, silent(), overwrite=True)
    assert yaml.safe_load((replaced / "config.yaml").read_text())["seed"] == 1


def test_where_things_lie_is_not_another_configuration(folder: Path, tmp_path: Path) -> None:
    config = tiny_benchmark(folder, name="moved", **FLOORS)
    first = run_benchmark(config, silent())
    moved = first.rename(tmp_path / "moved")
    again = config.model_copy(update={"runs": tmp_path, "cache": tmp_path / "cache", "data_root": tmp_path})
    assert run_benchmark(again, silent()) == moved


def test_a_run_is_not_continued_on_images_that_have_changed(folder: Path, tmp_path: Path) -> None:
    root = write_folder_dataset(tmp_path / "mine")
    datasets = {"linear": PHANTOMS["linear"], "mine": {"reader": "folder", "root": str(root)}}
    config = tiny_benchmark(folder, name="changed", datasets=datasets, sources=["linear"], targets=["mine"], **FLOORS)
    run_benchmark(config, silent())
    images = sorted((root / "images").iterdir())
    images[0].write_bytes(images[-1].read_bytes())
    with pytest.raises(UserError, match=r"changed: the run there differs in the content of datasets\.mine"):
        run_benchmark(config, silent())
    run_benchmark(config, silent(), overwrite=True)


def write_folder_dataset(root: Path, n_images: int = 24) -> Path:
    write_folder(generate(PhantomSpec("portable", n_images, size=64)), root)
    return root


# Seeds, targets, checkpoints


def test_models_have_a_row_for_every_training_seed_and_floors_one(folder: Path) -> None:
    methods = {**UNTRAINED["methods"], "empty": {"method": "empty"}}
    config = tiny_benchmark(folder, name="seeds", training_seeds=[3, 5], methods=methods, models=UNTRAINED["models"])
    rows = read_table(run_benchmark(config, silent()) / "results.parquet").to_pylist()
    assert {(row["method"], row["seed"]) for row in rows} == {("PANet", 3), ("PANet", 5), ("empty", 3)}
    dice = {seed: [row["dice"] for row in rows if (row["method"], row["seed"]) == ("PANet", seed)] for seed in (3, 5)}
    assert len(dice[3]) == len(dice[5])
    assert dice[3] != dice[5]


def test_every_target_has_its_own_draws_and_rows(folder: Path) -> None:
    targets = {"sources": ["linear"], "targets": ["portable", "highfreq"]}
    config = tiny_benchmark(folder, name="targets", **targets, draw_depth=1, shots=[1], **UNTRAINED)
    run = run_benchmark(config, silent())
    table = read_table(run / "results.parquet")
    for target in config.targets:
        records = open_store(config, target, silent()).records
        draws = DRAWS.read(run / f"draws-{target}.jsonl", records)
        queries = sorted(query for draw in draws for query in draw.queries)
        assert sorted(row["query"] for row in table.to_pylist() if row["target"] == target) == queries


def test_a_checkpoint_gives_the_rows_of_the_model_that_was_trained(run: Run, folder: Path) -> None:
    path = run.folder / "models" / "panet-seed0" / "checkpoint.safetensors"
    methods = {name: METHODS[name] for name in ("PANet", "PANet source prototypes")}
    config = tiny_benchmark(folder, name="checkpoint", methods=methods, models={"panet": {"checkpoint": str(path)}})
    rows = read_table(run_benchmark(config, silent()) / "results.parquet").to_pylist()
    assert repr(rows) == repr([row for row in run.rows if row["method"] in methods])  # NaN is written alike


# Mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"methods": {"mine": {"method": "protoypes"}}},
            r"methods\.mine: .*did you mean 'prototypes'",
        ),
        (
            {"methods": {"mine": {**METHODS["U-Net fine-tuned"], "options": {"step": 3}}}},
            r"methods\.mine: .*step: unknown key; did you mean 'steps'",
        ),
        (
            {"methods": {"mine": {**METHODS["U-Net fine-tuned"], "options": {"steps": 0}}}},
            r"methods\.mine: .*steps: .*greater than or equal to 1",
        ),
        ({"methods": {"mine": {"method": "zero-shot", "model": "panet"}}}, r"methods\.mine: .*supervised.*given PANet"),
        ({"methods": {"mine": {"method": "prototypes", "model": "unet"}}}, r"methods\.mine: .*PANet.*given UNet"),
        ({"methods": {"mine": {"method": "prototypes"}}}, r"methods\.mine: .*given no model; set `model`"),
        ({"models": {**MODELS, "panet": {"network": "panett"}}}, r"models\.panet: .*did you mean 'panet'"),
        ({"models": {**MODELS, "panet": {"levels": [7]}}}, r"models\.panet: .*levels \(7,\).*fewer levels"),
        ({"models": {**MODELS, "panet": {"checkpoint": "none.safetensors"}}}, r"models\.panet: .*no such checkpoint"),
        (
            {"encoder": {"name": "test_efficientnet", "weights": "none.safetensors"}},
            r"none.safetensors: cannot be read",
        ),
        (
            {"methods": {**METHODS, "mine": {"method": "empty", "control": "emptied"}}},
            r"methods\.mine: control: empty uses no support set, so there is nothing to control",
        ),
        (
            {"methods": {**METHODS, "mine": {**METHODS["PANet"], "control": "emptied"}}},
            r"methods\.mine: control: emptied masks are refused \(.*portable_0000.*\); use `swapped`",
        ),
        ({"shots": [0]}, r"methods\.PANet untrained: it needs a support set; add a number of at least 1 to `shots`"),
        ({"draw_depth": 10}, r"portable: \d+ patients with a lesion, 11 needed"),
    ],
)
def test_mistakes_are_known_before_anything_is_trained_or_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    forbid(monkeypatch, "fewshot.training.run.train")
    with pytest.raises(UserError, match=message):
        run_benchmark(tiny_benchmark(folder, name="mistaken", **changes), silent())
    assert not (folder / "runs" / "mistaken").exists()


# A user's own parts


OWN = '''
import torch
from episodes.datasets import folder


def read(root):
    return folder.read(root)


class Bright:
    """Calls lesion whatever is darker than the support's lesions; `encode` gives the grey levels themselves."""

    uses_support = True

    def __init__(self, ingredients, *, margin: float = 0.0):
        self.margin = margin

    def encode(self, images):
        from fewshot.features import Features
        return Features((images[..., :1, :, :],), tuple(images.shape[-2:]))

    def adapt(self, support, features=None):
        grey = (features or self.encode(support.images)).deepest[..., 0, :, :]
        return (grey * support.masks).sum() / support.masks.sum() + self.margin

    def segment(self, images, adapted):
        from fewshot.features import Features
        grey = (images if isinstance(images, Features) else self.encode(images)).deepest[:, 0]
        return torch.stack([grey, adapted.expand_as(grey)], dim=1)
'''


def test_a_method_and_a_reader_of_the_users_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    root = write_folder_dataset(tmp_path / "mine")
    datasets = {"linear": PHANTOMS["linear"], "mine": {"reader": "own_parts:read", "root": str(root)}}
    own = {"method": "own_parts:Bright", "model": "panet", "options": {"margin": 0.05}}
    config = tiny_benchmark(
        folder,
        name="own",
        datasets=datasets,
        sources=["linear"],
        targets=["mine"],
        models={"panet": PANET},
        methods={"PANet": {"method": "prototypes", "model": "panet"}, "own": own},
    )
    run = Run(config)
    # The method shares its model with PANet, but not PANet's features: its own `encode` is another.
    method, target = run.method("own"), EncodedTarget(run.store, CPU)
    for draw in run.draws:
        expected = evaluate(method, target, Task(draw.support[:1], draw.queries), cached=False)
        found = run.cell("own", 1, draw.index)
        assert [found[query]["dice"] for query in draw.queries] == pytest.approx(
            [one.scores.dice for one in expected], nan_ok=True
        )
    assert max(row["dice"] for row in run.cell("own", 2, 0).values() if row["lesion"]) > 0.1
