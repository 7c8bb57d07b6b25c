"""Rows of a benchmark whose support images are selected: the same queries, and the choice that `choose` makes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fewshot.benchmark.tasks
from episodes.errors import ManifestError, UserError
from episodes.sampling.draws import SupportDraw
from episodes.sampling.manifest import DRAWS
from episodes.sampling.selection import choose
from episodes.storage.store import Collection
from fewshot.benchmark.run import run_benchmark
from fewshot.benchmark.tasks import select_support
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.inference.out_of_distribution import describe, find_encoder
from fewshot.networks import seeded_network
from fewshot.results.rows import read_table
from fewshot.stores import open_store
from tests.fewshot.tiny_runs import PANET, TRAIN, UNET, silent, tiny_benchmark

CPU = torch.device("cpu")
PROTOTYPES = {"method": "prototypes", "model": "panet"}
METHODS = {
    "drawn": PROTOTYPES,
    "selected": {**PROTOTYPES, "support": "selected"},
    "centres": {**PROTOTYPES, "support": "selected", "select_by": "k-centres"},
    "swapped": {**PROTOTYPES, "support": "selected", "control": "swapped"},
    "tuned": {"method": "fine-tuned", "model": "unet", "support": "selected", "options": {"steps": 1}},
}
CHANGES: dict[str, Any] = {
    "methods": METHODS,
    "models": {"panet": PANET, "unet": UNET},
    "draw_depth": 4,
    "shots": [1, 2],
}


class Run:
    """A finished run, and what it was made of."""

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = config
        self.folder = run_benchmark(config, silent())
        self.rows: list[dict[str, Any]] = read_table(self.folder / "results.parquet").to_pylist()
        self.store = open_store(config, config.targets[0], silent())
        self.drawn = DRAWS.read(self.folder / "draws-portable.jsonl", self.store.records)

    def selected(self, row: str) -> list[SupportDraw]:
        return DRAWS.read(self.folder / "selected" / "portable" / f"{row}-seed0.jsonl", self.store.records)

    def scores(self, row: str) -> dict[tuple[int, int, str], float]:
        return {(one["shot"], one["draw"], one["query"]): one["dice"] for one in self.rows if one["method"] == row}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tiny_benchmark(tmp_path_factory.mktemp("selected"), **CHANGES))


@pytest.mark.parametrize("row", ["selected", "centres", "swapped", "tuned"])
def test_a_row_that_selects_is_asked_the_same_as_one_that_does_not(run: Run, row: str) -> None:
    assert run.scores(row).keys() == run.scores("drawn").keys()
    for drawn, selected in zip(run.drawn, run.selected(row), strict=True):
        assert (selected.index, selected.queries) == (drawn.index, drawn.queries)
        assert sorted(selected.support) == sorted(drawn.support)


@pytest.mark.parametrize(("row", "model", "by"), [("selected", PANET, "k-medoids"), ("centres", PANET, "k-centres")])
def test_what_is_selected_is_what_the_encoder_chooses_of_the_draw(
    run: Run, row: str, model: Mapping[str, Any], by: Any
) -> None:
    settings = run.config.models["panet"]
    assert settings.network == model["network"]
    encoder = find_encoder(seeded_network(run.config.encoder, settings, 0).eval())
    assert encoder is not None
    collection = Collection([run.store])
    for drawn, selected in zip(run.drawn, run.selected(row), strict=True):
        images = torch.stack([torch.from_numpy(collection.image(one).copy()) for one in drawn.support])
        with torch.inference_mode():
            features = describe(encoder((images / 255).unsqueeze(1).expand(-1, 3, -1, -1))).numpy()
        order = choose(features, drawn.support, len(drawn.support), by)
        assert selected.support == tuple(drawn.support[place] for place in order)


def test_rows_are_scored_on_what_they_selected(run: Run) -> None:
    """Where the first image selected is the first drawn, the 1-shot scores are those of the drawn row, else others."""
    pairs = zip(run.drawn, run.selected("selected"), strict=True)
    first = [drawn.support[0] == selected.support[0] for drawn, selected in pairs]
    drawn_scores, selected_scores = run.scores("drawn"), run.scores("selected")
    for draw, same in enumerate(first):
        of_draw = [key for key in drawn_scores if key[:2] == (1, draw)]
        differ = any(str(drawn_scores[key]) != str(selected_scores[key]) for key in of_draw)  # NaN of normals as well
        assert differ != same
    assert not all(first)


def test_a_run_selects_the_same_again_and_once_interrupted_reads_what_it_selected(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_benchmark(tmp_path, **{**CHANGES, "methods": {name: METHODS[name] for name in ("drawn", "selected")}})
    folder = run_benchmark(config, silent())
    kept = folder / "selected" / "portable" / "selected-seed0.jsonl"
    assert kept.read_bytes() == (run.folder / "selected" / "portable" / "selected-seed0.jsonl").read_bytes()
    whole = (folder / "results.parquet").read_bytes()
    for path in (folder / "cells" / "portable" / "selected").glob("*shot2*"):
        path.unlink()
    (folder / "results.parquet").unlink()

    def not_again(*_: object) -> SupportDraw:
        raise AssertionError("selected again")

    monkeypatch.setattr(fewshot.benchmark.tasks, "select_support", not_again)
    run_benchmark(config, silent())
    assert (folder / "results.parquet").read_bytes() == whole
    kept.write_text(kept.read_text()[:-40])
    next((folder / "cells" / "portable" / "selected").glob("*.parquet")).unlink()
    with pytest.raises(ManifestError, match=r"selected-seed0\.jsonl"):
        run_benchmark(config, silent())


def test_fewer_shots_are_the_first_of_more(run: Run) -> None:
    draw = run.drawn[0]
    encoder = find_encoder(seeded_network(run.config.encoder, run.config.models["panet"], 0).eval())
    assert encoder is not None
    whole = select_support(draw, encoder, Collection([run.store]), "k-medoids", CPU)
    turned = replace(draw, support=draw.support[::-1])
    assert whole.support == select_support(turned, encoder, Collection([run.store]), "k-medoids", CPU).support
    assert len(set(whole.support)) == len(draw.support)


def test_of_folds_each_model_selects_for_its_own_queries(tmp_path: Path) -> None:
    model = {**PANET, "train": TRAIN, "trained_on": "target", "folds": 2}
    config = tiny_benchmark(
        tmp_path,
        **{**CHANGES, "models": {"panet": model}, "methods": {"selected": METHODS["selected"]}, "sources": []},
    )
    folder = run_benchmark(config, silent())
    names = {path.name for path in (folder / "selected" / "portable").iterdir()}
    assert names == {"selected-seed0-fold0.jsonl", "selected-seed0-fold1.jsonl"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {"a": {"method": "empty", "support": "selected"}}}, "support: selected needs a `model`"),
        ({"methods": {"a": {**PROTOTYPES, "select_by": "k-centres"}}}, "select_by: is for support: selected"),
        ({"protocol": "classic"}, "methods.selected.support: selected is for the protocol support-draws"),
        ({"draw_depth": 2, "shots": [2]}, "of 2 images none is left out at 2 shots; raise draw_depth"),
        (
            {"methods": {"a": {"method": "zero-shot", "model": "unet", "support": "selected"}}},
            "methods.a: support: zero-shot uses no support set, so there is nothing to select",
        ),
    ],
)
def test_what_cannot_select_is_said_before_anything_is_computed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        run_benchmark(tiny_benchmark(tmp_path, **{**CHANGES, **changes}), silent())
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()
