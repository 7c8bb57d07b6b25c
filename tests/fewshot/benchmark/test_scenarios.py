"""Where models are trained and supports drawn: held-out targets, the target's folds, another dataset, episodes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.sampling.episode import class_mask, image_tensor, load_support
from episodes.sampling.manifest import DRAWS, EPISODES
from episodes.storage.store import Collection, Store
from fewshot.benchmark.run import run_benchmark
from fewshot.checkpoints import load_checkpoint, load_network
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.inference.support import record_hashes
from fewshot.methods.contract import Ingredients, Method, Sources, build_method
from fewshot.results.rows import read_table, table_facts
from fewshot.stores import open_store
from tests.fewshot.tiny_runs import METHODS, MODELS, PANET, TRAIN, UNET, silent, tiny_benchmark

CPU = torch.device("cpu")
SMALL = {name: METHODS[name] for name in ("empty", "PANet", "U-Net")}


class Run:
    """A finished run, its rows and its datasets."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.config: BenchmarkConfig = tiny_benchmark(folder, **changes)
        self.folder = run_benchmark(self.config, silent())
        self.table = read_table(self.folder / "results.parquet")
        self.rows: list[dict[str, Any]] = self.table.to_pylist()
        self.stores: dict[str, Store] = {name: open_store(self.config, name, silent()) for name in self.config.datasets}

    def of(self, method: str, **facts: Any) -> list[dict[str, Any]]:
        wanted = {"method": method, **facts}
        return [row for row in self.rows if wanted.items() <= row.items()]

    def facts(self, training: str) -> dict[str, Any]:
        return dict(load_checkpoint(self.folder / "models" / training / "checkpoint.safetensors").facts)

    def built(self, row: str, training: str | None) -> Method:
        """The method of a row, with the network of a training."""
        network = None
        if training is not None:
            network = load_network(self.folder / "models" / training / "checkpoint.safetensors")[0]
        sources = Sources(Collection([]), ())
        return build_method(
            self.config.methods[row].method, self.config.methods[row].options, Ingredients(network, sources, CPU)
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenarios")


def dice_of(method: Method, collection: Collection, support: Sequence[str], query: str, asked: Any = "lesion") -> float:
    """A query's Dice, by its definition, from the method asked for this query alone."""
    with torch.inference_mode():
        adapted = method.adapt(load_support(collection, [support], [asked]) if support else None)
        logits = method.segment(image_tensor(np.array(collection.image(query))[None]), adapted)[0]
    predicted, truth = (logits.argmax(0) > 0).numpy(), class_mask(np.asarray(collection.label_map(query)), asked)
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))


# Leave one dataset out


@pytest.fixture(scope="module")
def held_out(folder: Path) -> Run:
    models = {"panet": MODELS["panet"], "unet": MODELS["unet"]}
    names = ["linear", "highfreq", "portable"]
    return Run(folder, name="held-out", sources=names, targets=["linear", "portable"], methods=SMALL, models=models)


def test_a_target_among_the_sources_is_left_out_for_its_own_rows(held_out: Run) -> None:
    assert {path.name for path in (held_out.folder / "models").iterdir()} == {
        f"{model}-seed0-{target}" for model in ("panet", "unet") for target in ("linear", "portable")
    }
    assert held_out.facts("unet-seed0-linear")["sources"] == ["highfreq", "portable"]
    assert held_out.facts("unet-seed0-portable")["sources"] == ["linear", "highfreq"]


@pytest.mark.parametrize("target", ["linear", "portable"])
def test_each_target_is_segmented_by_the_network_that_has_not_seen_it(held_out: Run, target: str) -> None:
    method = held_out.built("U-Net", f"unet-seed0-{target}")
    collection = Collection([held_out.stores[target]])
    rows = [row for row in held_out.of("U-Net", target=target) if row["lesion"]][:4]
    assert len(rows) == 4
    for row in rows:
        assert row["dice"] == pytest.approx(dice_of(method, collection, (), row["query"]), abs=1e-5)


# Trained on the target itself


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Run:
    models = {
        "unet": MODELS["unet"],
        "own": {**UNET, "train": TRAIN, "trained_on": "target", "folds": 2},
        "own-panet": {**PANET, "train": TRAIN, "trained_on": "target", "folds": 2},
    }
    methods = {
        "U-Net": METHODS["U-Net"],
        "oracle": {"method": "zero-shot", "model": "own"},
        "own PANet": {"method": "prototypes", "model": "own-panet"},
        "own sources": {"method": "source-prototypes", "model": "own-panet"},
    }
    return Run(folder, name="oracle", models=models, methods=methods)


def kept_for_test(run: Run, training: str) -> set[str]:
    hashes, kept = record_hashes([run.stores["portable"]]), run.facts(training)["test_images"]
    return {record_id for record_id, image in hashes.items() if image in kept}


def test_every_query_is_segmented_once_by_a_model_that_has_not_seen_its_patient(oracle: Run) -> None:
    store = oracle.stores["portable"]
    patient_of = {record.id: record.patient_id for record in store.records}
    rows = {row["query"]: row for row in oracle.of("oracle")}
    assert len(oracle.of("oracle")) == len(rows) == len(store.records)
    seen: set[str] = set()
    for fold in (0, 1):
        training = f"own-seed0-portable-fold{fold}"
        test = kept_for_test(oracle, training)
        assert {patient_of[i] for i in test} & {patient_of[i] for i in patient_of.keys() - test} == set()
        method, collection = oracle.built("oracle", training), Collection([store])
        for query in sorted(query for query in test if rows[query]["lesion"])[:3]:
            assert rows[query]["dice"] == pytest.approx(dice_of(method, collection, (), query), abs=1e-5)
        seen |= test
    assert seen == set(patient_of)


def test_rows_say_what_their_model_was_trained_on(oracle: Run) -> None:
    assert {(row["method"], row["model"], row["trained_on"]) for row in oracle.rows} == {
        ("U-Net", "unet", "sources"),
        ("oracle", "own", "target"),
        ("own PANet", "own-panet", "target"),
        ("own sources", "own-panet", "target"),
    }


def test_folds_and_draws_go_together(oracle: Run) -> None:
    store = oracle.stores["portable"]
    draws = DRAWS.read(oracle.folder / "draws-portable.jsonl", store.records)
    for draw in draws:
        asked = [row["query"] for row in oracle.of("own PANet", draw=draw.index, shot=2)]
        assert sorted(asked) == list(draw.queries)
    test = kept_for_test(oracle, "own-panet-seed0-portable-fold1")
    method, support = oracle.built("own PANet", "own-panet-seed0-portable-fold1"), draws[0].support[:1]
    row = next(row for row in oracle.of("own PANet", draw=0, shot=1) if row["lesion"] and row["query"] in test)
    assert row["dice"] == pytest.approx(dice_of(method, Collection([store]), support, row["query"]), abs=1e-5)


def test_without_sources_everything_is_trained_within_the_target(folder: Path) -> None:
    models = {"own": {**UNET, "train": TRAIN, "trained_on": "target", "folds": 2}}
    methods = {"U-Net": {"method": "zero-shot", "model": "own"}}
    run = Run(folder, name="within", sources=[], models=models, methods=methods)
    assert len(run.rows) == len(run.stores["portable"].records)
    gallery = json.loads((run.folder / "gallery" / "gallery.json").read_text())
    assert {case["why"] for case in gallery} >= {"worst", "median"}


# Supports from another dataset


def test_supports_of_another_dataset_leave_every_image_as_a_query(folder: Path) -> None:
    run = Run(folder, name="cross", support_from="linear", methods=SMALL)
    records = [*run.stores["linear"].records, *run.stores["portable"].records]
    draws = DRAWS.read(run.folder / "draws-portable.jsonl", records)
    everything = sorted(record.id for record in run.stores["portable"].records)
    assert all(record_id.startswith("linear/") for draw in draws for record_id in draw.support)
    for draw in draws:
        assert sorted(row["query"] for row in run.of("PANet", draw=draw.index, shot=1)) == everything
    method = run.built("PANet", "panet-seed0")
    collection = Collection(run.stores.values())
    row = next(row for row in run.of("PANet", draw=1, shot=2) if row["lesion"])
    assert row["dice"] == pytest.approx(dice_of(method, collection, draws[1].support[:2], row["query"]), abs=1e-4)
    assert table_facts(run.table)["support_from"] == "linear"


# The protocol of papers


@pytest.fixture(scope="module")
def classic(folder: Path) -> Run:
    settings = {"episodes": 6, "runs": 2, "n_query": 1, "classes": ["benign", "malignant"]}
    methods = {**SMALL, "swapped": {**SMALL["PANet"], "control": "swapped"}}
    return Run(folder, name="classic", protocol="classic", classic=settings, methods=methods)


def test_every_method_answers_every_episode(classic: Run) -> None:
    store = classic.stores["portable"]
    for run in (0, 1):
        specs = EPISODES.read(classic.folder / f"episodes-portable-run{run}.jsonl", store.records)
        asked = sorted((spec.index, spec.classes[0], query) for spec in specs for query in spec.query)
        assert len(asked) == 6
        for method, shots in (("empty", [0]), ("U-Net", [0]), ("PANet", [1, 2]), ("swapped", [1, 2])):
            for shot in shots:
                rows = classic.of(method, draw=run, shot=shot)
                assert sorted((row["episode"], row["class"], row["query"]) for row in rows) == asked
    assert table_facts(classic.table)["protocol"] == "classic"


def test_an_episode_is_scored_for_its_class_and_with_its_first_supports(classic: Run) -> None:
    store = classic.stores["portable"]
    specs = EPISODES.read(classic.folder / "episodes-portable-run1.jsonl", store.records)
    method, collection = classic.built("PANet", "panet-seed0"), Collection([store])
    for shot in (1, 2):
        for row in classic.of("PANet", draw=1, shot=shot)[:4]:
            spec = specs[row["episode"]]
            support, asked = spec.support[0][:shot], spec.classes[0]
            assert row["dice"] == pytest.approx(dice_of(method, collection, support, row["query"], asked), abs=1e-4)


def test_queries_of_the_classic_protocol_show_what_is_asked_for(classic: Run) -> None:
    assert all(row["lesion"] and row["label"] == row["class"] for row in classic.rows)
    assert not (classic.folder / "gallery").exists()
