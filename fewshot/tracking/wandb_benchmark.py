"""A benchmark in wandb: one run per method, target, number of shots and training seed, and one per training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from fewshot.benchmark.gallery import GalleryCase, read_gallery
from fewshot.checkpoints import read_facts
from fewshot.results.summary import Row, interval_columns, summarise
from fewshot.results.table import SCORES
from fewshot.terminal.progress import Reporter
from fewshot.tracking.wandb_index import LoggedRuns
from fewshot.tracking.wandb_offline import say_what_waits
from fewshot.tracking.wandb_run import RunFacts, WandbRun, digest, wandb_run
from fewshot.tracking.wandb_training import METRICS, log_finished_training, training_run_facts
from fewshot.tracking.wandb_values import DICE, data_table, known, overlay

if TYPE_CHECKING:
    import wandb

# What of a query is shown: each cell costs wandb's client some microseconds, and there are millions in a benchmark.
QUERY_COLUMNS: dict[str, type] = {
    "draw": int,
    **dict.fromkeys(("query", "patient", "label"), str),
    **dict.fromkeys(("dice", "iou", "hd95", "nsd", "detected", "false_positive", "false_positive_area"), float),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """What one run of wandb shows.

    Attributes:
        row: means and intervals of this training seed alone.
        over_seeds: the row of the report, over all seeds; None if it was not given.
        seed: of the training.
        table: the per-query results.
    """

    row: Row
    over_seeds: Row | None
    seed: int
    table: pa.Table

    @property
    def name(self) -> str:
        """Such as `portable/PANet/5-shot/seed0`."""
        return f"{self.row.target}/{self.row.method}/{self.row.shot}-shot/seed{self.seed}"

    @property
    def scores(self) -> dict[str, float]:
        """What the run ends with; not defined where there is nothing to score."""
        scores = interval_columns(DICE, self.row.dice) | self.row.scores
        scores |= {"n_lesion": self.row.n_lesion, "n_normal": self.row.n_normal}
        if self.over_seeds is not None:
            scores |= interval_columns(f"{DICE}_over_seeds", self.over_seeds.dice)
        return scores

    @property
    def digest(self) -> str:
        """Depends on the results alone, not on their order or where they lie."""
        keys = [(name, "ascending") for name in ("draw", "episode", "query")]
        rows = self.table.select(["draw", "episode", "query", "patient", *SCORES]).sort_by(keys)
        return sha256(repr(rows.to_pydict()).encode()).hexdigest()


def log_benchmark(
    folder: Path, group: str, config: Mapping[str, Any], table: pa.Table, rows: Sequence[Row], reporter: Reporter
) -> list[str]:
    """Log a finished benchmark: its trainings, as far as they were not logged live, and all its results.

    What is in wandb already is left out. The first failure of wandb ends it with a warning.

    Args:
        folder: of the run.
        group: the benchmark's name.
        config: resolved, as JSON values.
        table: the per-query results.
        rows: of the report.
        reporter: shows progress.

    Returns:
        The ids of the runs that were logged now.
    """
    with reporter.step(f"wandb: {group}") as update:
        if not _log_trainings(folder, group):
            return []
        logged, index, cases = list[str](), LoggedRuns(folder), read_gallery(folder)
        cells = list(_cells(table, rows))
        for done, cell in enumerate(cells, start=1):
            facts = _run_facts(cell, group, config)
            if facts.id not in index:
                with wandb_run(folder, facts) as run:
                    _log_cell(run, cell, [case for case in cases if _is_of(case, cell)])
                if not run.complete:
                    return logged
                index.add(facts.id, facts.name)
                logged.append(facts.id)
            update(done, len(cells), f"{len(logged)} runs logged")
    if logged:
        say_what_waits(folder)
    return logged


def _log_trainings(folder: Path, group: str) -> bool:
    """Log every training of the benchmark; false once wandb fails."""
    models = folder / "models"
    for metrics in sorted(models.rglob(METRICS)):
        checkpoint = metrics.with_name("checkpoint.safetensors")
        if not checkpoint.is_file():
            continue
        facts = read_facts(checkpoint)
        run = training_run_facts(str(metrics.parent.relative_to(models)), group, facts, facts)
        if not log_finished_training("wandb", metrics.parent, run, facts.get("kept_step")):
            return False
    return True


def _cells(table: pa.Table, rows: Sequence[Row]) -> Iterator[Cell]:
    """Every method, target, number of shots and seed, in the order of seeds and of the report."""
    whole = {_key(row): row for row in rows}
    targets = list(dict.fromkeys(row.target for row in rows))
    for seed in sorted(set(table["seed"].to_pylist())):
        of_seed = table.filter(pc.equal(table["seed"], seed))
        for row in summarise(of_seed, [name for name in targets if name in set(of_seed["target"].to_pylist())]):
            chosen = pc.and_(pc.equal(of_seed["target"], row.target), pc.equal(of_seed["method"], row.method))
            part = of_seed.filter(pc.and_(chosen, pc.equal(of_seed["shot"], row.shot)))
            yield Cell(row, whole.get(_key(row)), seed, part)


def _key(row: Row) -> tuple[str, str, int]:
    return row.target, row.method, row.shot


def _run_facts(cell: Cell, group: str, config: Mapping[str, Any]) -> RunFacts:
    first = cell.table.slice(0, 1).to_pylist()[0]
    method = config.get("methods", {}).get(cell.row.method, {})
    about = {
        "benchmark": group,
        "target": cell.row.target,
        "method": cell.row.method,
        "shot": cell.row.shot,
        "seed": cell.seed,
        # A filter of wandb finds no run by a value that is null.
        **{name: first[name] or "none" for name in ("kind", "model", "trained_on", "control", "control_of")},
        "options": method.get("options", {}),
        "network": config.get("models", {}).get(method.get("model"), {}),
        "protocol": {name: config[name] for name in _PROTOCOL if name in config},
    }
    run_id = digest("benchmark", group, cell.row.target, cell.row.method, cell.row.shot, cell.seed, cell.digest)
    return RunFacts(run_id, cell.name, group, "benchmark", about)


_PROTOCOL = ("protocol", "sources", "support_from", "draws", "draw_depth", "classic", "seed", "image_size", "encoder")


def _log_cell(run: WandbRun, cell: Cell, cases: Sequence[GalleryCase]) -> None:
    scores = known(cell.scores)

    def log(made: "wandb.Run") -> None:
        # The numbers of shots are the axis of a report's line plot, where every run is a point of its method's line.
        made.define_metric("shot")
        made.define_metric(f"{DICE}*", step_metric="shot")
        history = {name: scores[name] for name in (DICE, f"{DICE}_low", f"{DICE}_high") if name in scores}
        pictures = {"cases": [_picture(case) for case in cases]} if cases else {}
        made.log({"shot": cell.row.shot, **history, "queries": query_table(cell.table), **pictures})

    run.do(log)
    run.summarise(scores)


def query_table(table: pa.Table) -> "wandb.Table":
    """Per-query results, undefined scores left empty."""
    columns = [table[name].to_pylist() for name in QUERY_COLUMNS]
    rows = [[_or_none(value) for value in row] for row in zip(*columns, strict=True)]
    return data_table(QUERY_COLUMNS, rows)


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and isnan(value) else value


def _is_of(case: GalleryCase, cell: Cell) -> bool:
    return (case.target, case.method, case.shot, case.seed) == (*_key(cell.row), cell.seed)


def _picture(case: GalleryCase) -> "wandb.Image":
    score = case.label if case.dice is None else f"{case.label}, Dice {case.dice:.2f}"
    draw = "" if case.draw < 0 else f", draw {case.draw}"
    return overlay(case.query.image, case.query.mask, case.prediction, f"{case.why}: {case.query.id}, {score}{draw}")
