"""What is logged in wandb: trainings, evaluations, benchmarks."""

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from episodes.storage.store import Store
from fewshot.checkpoints import read_facts
from fewshot.config.training import Tracking, TrainConfig
from fewshot.evaluate.figures import chosen_cases
from fewshot.evaluate.scores import Assessment, ImageResult
from fewshot.results.gallery import GalleryCase, read_gallery
from fewshot.results.history import METRICS
from fewshot.results.rows import SCORES
from fewshot.results.summary import Row, interval_columns, summarise
from fewshot.terminal import Reporter
from fewshot.tracking.wandb_run import (
    DICE,
    LoggedRuns,
    RunFacts,
    WandbRun,
    data_table,
    digest,
    known,
    overlay,
    say_what_waits,
    wandb_run,
)

if TYPE_CHECKING:
    import wandb


# What a checkpoint says of its training beside what was asked for.
_OUTCOME = {"precision", "kept_step", "test_ids"}


class TrainingRun:
    """Listens to a training; does nothing without a run.

    Training that goes on from a saved state logs its earlier steps first, so that its run is whole.

    Args:
        run: of wandb.
        metrics: the local log, which is written before.
    """

    def __init__(self, run: WandbRun | None, metrics: Path) -> None:
        self.run = run
        self.metrics = metrics
        self._begun = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        if self.run is None:
            return
        if not self._begun:
            self._begun = True
            replay(self.run, self.metrics, before=step)
        self.run.log(step, values)

    def keep(self, step: int) -> None:
        """Say which step's weights are kept."""
        if self.run is not None:
            self.run.summarise({"kept_step": step})


def training_listener(tracking: Tracking) -> "WandbTrainings | None":
    """Follow trainings in wandb where that is asked for; of several processes the first one does."""
    return WandbTrainings() if tracking == "wandb" and os.environ.get("RANK", "0") == "0" else None


class WandbTrainings:
    """Follows trainings: each is a run whose id depends on the group and on what changes the result."""

    @contextmanager
    def follow(self, folder: Path, config: TrainConfig, group: str, facts: Mapping[str, Any]) -> Iterator[TrainingRun]:
        """Listen to a training, whose local log is `folder/metrics.jsonl`, for as long as the block runs."""
        run_facts = training_run_facts(config.name, group, config.model_dump(mode="json"), facts)
        with wandb_run(folder, run_facts) as run:
            yield TrainingRun(run, folder / METRICS)
        _remember(run, run_facts)

    def catch_up(
        self, folder: Path, config: TrainConfig, group: str, facts: Mapping[str, Any], kept_step: int | None
    ) -> None:
        """Log a training that has ended, from its local log, unless it is in wandb already."""
        run_facts = training_run_facts(config.name, group, config.model_dump(mode="json"), facts)
        log_finished_training(folder, run_facts, kept_step)


def training_run_facts(name: str, group: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> RunFacts:
    """Describe a training's run.

    Args:
        name: shown.
        group: the benchmark that it is for, or its own name.
        config: shown, JSON values.
        facts: of the training, or of its checkpoint.
    """
    asked = {key: value for key, value in facts.items() if key not in _OUTCOME}
    return RunFacts(digest("train", group, asked), name, group, "train", config)


def log_finished_training(folder: Path, facts: RunFacts, kept_step: int | None) -> bool:
    """Log a training that has ended, from its local log, unless it is in wandb already.

    Args:
        folder: of the training.
        facts: what wandb is to know.
        kept_step: whose weights were kept.

    Returns:
        Whether wandb works: true as well where there was nothing to do.
    """
    if facts.id in LoggedRuns(folder):
        return True
    with wandb_run(folder, facts) as run:
        replay(run, folder / METRICS)
        run.summarise({"kept_step": kept_step})
    _remember(run, facts)
    return run.complete


def replay(run: WandbRun, metrics: Path, before: float = math.inf) -> None:
    """Log the steps of a local log again, up to one.

    Args:
        run: of wandb.
        metrics: the local log; a last line that was left half-written is left out.
        before: the first step that is not logged.
    """

    def log(made: "wandb.Run") -> None:
        text = metrics.read_text(encoding="utf-8")
        for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines()):
            step = line.pop("step")
            if step < before:
                made.log(line, step=step)

    run.do(log)


def _remember(run: WandbRun, facts: RunFacts) -> None:
    """Note a run that was logged to its end; a benchmark tells of its uploads once, at its own end."""
    if run.complete:
        LoggedRuns(run.folder).add(facts.id, facts.name)
        if facts.group == facts.name:
            say_what_waits(run.folder)


def log_finetuning(checkpoint: Path, out: Path, facts: Mapping[str, Any]) -> None:
    """Log what was fine-tuned on what; its files go beside the new checkpoint.

    Args:
        checkpoint: the one before.
        out: the new checkpoint.
        facts: of the new checkpoint, among them `finetuned`: the options and the support images' ids.
    """
    config = {**facts["finetuned"], "checkpoint": str(checkpoint), "training": dict(facts)}
    run_facts = RunFacts(digest("finetune", out.stem, facts), out.stem, "finetune", "finetune", config)
    with wandb_run(out.parent, run_facts) as run:
        run.summarise({"n_support": len(facts["finetuned"]["support"])})
    if run.complete:
        say_what_waits(out.parent)


_TEXT = ("image", "patient", "label")


def log_evaluation(
    out: Path,
    about: Mapping[str, Any],
    assessment: Assessment,
    images: Sequence[ImageResult],
    store: Store,
) -> None:
    """Log an evaluation's folder.

    Args:
        out: the folder, with all its files.
        about: what was judged.
        assessment: its scores.
        images: every image's.
        store: holds their pixels.
    """
    scores = headline_scores(assessment)
    facts = RunFacts(digest("evaluate", about, scores), out.name, str(about["dataset"]), "evaluate", dict(about))
    with wandb_run(out, facts) as run:
        run.summarise(scores)
        run.do(lambda made: made.log(_tables_and_pictures(out, images, store)))
    if run.complete:
        say_what_waits(out)


def headline_scores(assessment: Assessment) -> dict[str, float]:
    """The scores by name; the ends of an interval as `NAME_low` and `NAME_high`, and `lesion_dice` for the Dice."""
    intervals = {DICE if name == "dice" else name: value for name, value in assessment.lesion.items()}
    intervals |= assessment.normal
    intervals |= {"pixels_f1": assessment.pixels.f1, "dice_empty_as_one": assessment.pixels.dice_empty_as_one}
    if assessment.labels is not None:
        intervals |= {"label_accuracy": assessment.labels.accuracy, "label_macro_f1": assessment.labels.macro_f1}
    scores = {
        "pixels_auc": assessment.roc.auc,
        "calibration_error": assessment.reliability.expected_calibration_error,
        "pixel_accuracy": assessment.pixel_accuracy,
        "n_lesion": assessment.n_lesion,
        "n_normal": assessment.n_normal,
        "n_patients": assessment.n_patients,
        **assessment.uncertainty,
    }
    for name, interval in intervals.items():
        scores |= interval_columns(name, interval)
    return scores


def _tables_and_pictures(out: Path, images: Sequence[ImageResult], store: Store) -> dict[str, Any]:
    """The folder's table of images, its figures, and the cases of `cases.png`, if there are any."""
    import wandb

    with (out / "images.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    types = {name: str if name in _TEXT else float for name in header}
    values = [[_value(types[name], text) for name, text in zip(header, row, strict=True)] for row in rows]
    figures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted(out.glob("*.png"))}
    cases = _overlays(out, images, store)
    return {"images": data_table(types, values), **figures, **({"cases": cases} if cases else {})}


def _value(kind: type, text: str) -> Any:
    return kind(text) if text else None


def _overlays(out: Path, images: Sequence[ImageResult], store: Store) -> list["wandb.Image"]:
    """The images that the figure `cases.png` shows."""
    rows = {record.id: row for row, record in enumerate(store.records)}
    names = {image.record.id: image.record.stem for image in images}
    found = []
    for record_id, title in chosen_cases(images):
        with Image.open(out / "masks" / f"{names[record_id]}.png") as picture:
            prediction = np.asarray(picture) > 0
        image = np.asarray(store.images[rows[record_id]])
        truth = np.asarray(store.label_maps[rows[record_id]]) > 0
        found.append(overlay(image, truth, prediction, f"{record_id}: {title}"))
    return found


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
        if not log_finished_training(metrics.parent, run, facts.get("kept_step")):
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
