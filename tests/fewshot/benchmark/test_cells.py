"""Which cells a benchmark consists of: every row at every number of shots that it can be evaluated at."""

from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from episodes.sampling.draws import SupportDraw
from episodes.sampling.episode import Support
from episodes.sampling.sampler import EpisodeSampler
from fewshot.benchmark.plan import list_cells
from fewshot.benchmark.tasks import Classic, SupportDraws, TargetProtocol
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.parsing import ConfigError, parse_config
from fewshot.methods.contract import Method
from fewshot.results.rows import Cell
from tests.episodes.made_records import made_dataset


@dataclass
class Made:
    """A method as far as cells depend on it."""

    uses_support: bool

    def adapt(self, support: Support | None) -> None: ...

    def segment(self, images: Tensor, adapted: None) -> Tensor:
        return images


@dataclass
class Optional(Made):
    """A method that may do without its support set."""

    needs_support: bool


KINDS: dict[str, Method] = {
    "floor": Made(uses_support=False),
    "fine-tuned": Made(uses_support=True),
    "needing": Optional(uses_support=True, needs_support=True),
    "prior": Optional(uses_support=True, needs_support=False),
    "prior swapped": Optional(uses_support=True, needs_support=False),
}


PATIENTS = made_dataset("t", {"benign": 3})


def cells(
    *rows: str, models: dict[str, str] | None = None, settings: dict[str, Any] | None = None, **changes: Any
) -> list[Cell]:
    tree = {
        "name": "cells",
        "datasets": {name: {"phantom": {"scanner": "linear"}} for name in ("s", "t", "u")},
        "sources": ["s"],
        "targets": ["t"],
        "draws": 2,
        "models": {"a": {}, "b": {}} | (settings or {}),
        "methods": {
            row: {"method": row, "model": (models or {}).get(row), "control": row.split()[-1]}
            if " " in row
            else {"method": row, "model": (models or {}).get(row)}
            for row in rows
        },
        **changes,
    }
    config = parse_config(tree, BenchmarkConfig, "cells")
    protocols = {target: protocol(config, target) for target in config.targets}
    return list_cells(config, {row: KINDS[row] for row in rows}, protocols)


def protocol(config: BenchmarkConfig, target: str) -> TargetProtocol:
    """Of a target without records, on which cells do not depend."""
    if config.protocol == "classic":
        return Classic(target, (), [EpisodeSampler(PATIENTS, n_shot=1)] * config.classic.runs, config.classic)
    return SupportDraws(target, (), (), [SupportDraw(draw, (), ()) for draw in range(config.draws)], {})


def places(found: list[Cell]) -> list[tuple[int, int]]:
    return [(cell.shot, cell.draw) for cell in found]


DRAWN = [(1, 0), (1, 1), (5, 0), (5, 1)]


@pytest.mark.parametrize("shots", [[0, 1, 5], [1, 5]])
def test_a_method_without_support_has_one_cell_whether_or_not_0_is_listed(shots: list[int]) -> None:
    assert cells("floor", shots=shots) == [Cell("t", "floor", seed=0, shot=0, draw=-1)]


@pytest.mark.parametrize("row", ["fine-tuned", "needing"])
def test_a_method_that_needs_its_support_set_has_no_cell_at_0(row: str) -> None:
    assert places(cells(row, shots=[0, 1, 5])) == DRAWN


def test_a_method_that_can_do_without_has_one_cell_at_0_if_asked_for() -> None:
    assert places(cells("prior", shots=[0, 1, 5])) == [(0, -1), *DRAWN]
    assert places(cells("prior", shots=[1, 5])) == DRAWN
    assert places(cells("prior", shots=[0])) == [(0, -1)]


def test_a_control_has_no_cell_at_0() -> None:
    found = cells("prior", "prior swapped", shots=[0, 1, 5])
    assert places([cell for cell in found if cell.method == "prior swapped"]) == DRAWN


@pytest.mark.parametrize("row", ["fine-tuned", "prior swapped"])
def test_a_row_without_any_cell_is_told(row: str) -> None:
    with pytest.raises(ConfigError, match=f"^methods.{row}: it needs a support set; add a number of at least 1"):
        cells("floor", row, shots=[0])


def test_every_target_and_training_seed_has_its_cells_and_floors_know_no_seed() -> None:
    found = cells("floor", "prior", models={"prior": "a"}, targets=["t", "u"], training_seeds=[3, 4], shots=[1])
    of_floor = {(cell.target, cell.seed) for cell in found if cell.method == "floor"}
    of_prior = [(cell.target, cell.seed, cell.draw) for cell in found if cell.method == "prior"]
    assert of_floor == {("t", 3), ("u", 3)}
    assert sorted(of_prior) == [(target, seed, draw) for target in "tu" for seed in (3, 4) for draw in (0, 1)]
    assert len(set(found)) == len(found) == 10


def test_rows_of_one_model_follow_each_other() -> None:
    models = {"needing": "b", "prior": "a", "fine-tuned": "b", "prior swapped": "a"}
    found = cells("needing", "prior", "fine-tuned", "prior swapped", models=models, shots=[1])
    order = [models[cell.method] for cell in found]
    assert order == sorted(order)


def test_a_model_trained_on_the_target_has_every_cell_in_every_fold() -> None:
    own = {"a": {"train": {"steps": 1}, "trained_on": "target", "folds": 3}}
    found = cells("prior", "floor", models={"prior": "a"}, shots=[0, 1], settings=own)
    of_prior = {(cell.fold, cell.shot, cell.draw) for cell in found if cell.method == "prior"}
    assert of_prior == {(fold, *place) for fold in range(3) for place in ((0, -1), (1, 0), (1, 1))}
    assert [cell.fold for cell in found if cell.method == "floor"] == [-1]


def test_runs_of_the_classic_protocol_are_draws_with_and_without_supports() -> None:
    found = cells("prior", "floor", shots=[0, 2], protocol="classic", classic={"runs": 3})
    assert [cell.draw for cell in found if cell.method == "floor"] == [0, 1, 2]
    of_prior = [(cell.shot, cell.draw) for cell in found if cell.method == "prior"]
    assert of_prior == [(shot, run) for shot in (0, 2) for run in range(3)]
