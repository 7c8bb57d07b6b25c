"""Results in wandb: evaluations, benchmarks, and the Report of a benchmark."""

import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import UserError
from episodes.io.files import file_hash, write_text
from episodes.names import short_name
from episodes.storage.store import Store
from fewshot.checkpoints import read_facts
from fewshot.evaluate.figures import chosen_cases
from fewshot.evaluate.scores import Assessment, ImageResult, image_table
from fewshot.report.tables import table_of
from fewshot.results.history import METRICS
from fewshot.results.identities import Identities, run_identities
from fewshot.results.numbers import annotated_images
from fewshot.results.rows import SCORES
from fewshot.results.run_files import GalleryCase, read_gallery
from fewshot.results.summary import MethodResult, interval_columns, summarise
from fewshot.terminal import Reporter
from fewshot.tracking.wandb_run import (
    LoggedRuns,
    RunFacts,
    WandbRun,
    asked_for,
    defined,
    digest,
    first_line,
    log_finished_training,
    logged_in,
    say_what_waits,
    sync_command,
    training_run_facts,
    waiting_runs,
    wandb_environment,
    wandb_folder,
    wandb_project,
    wandb_run,
)

if TYPE_CHECKING:
    import wandb
    from wandb_workspaces.reports.v2.interface import Report

logger = logging.getLogger(__name__)

DICE = "lesion_dice"
SHARED = f"{DICE}_shared"  # on the lesion images that all methods have: to compare numbers of annotated images


def log_evaluation(
    out: Path, about: Mapping[str, Any], assessment: Assessment, images: Sequence[ImageResult], store: Store
) -> None:
    """Log an evaluation whose files are written: scores, the table of images, figures, and the cases of `cases.png`."""
    scores, identities = _headline_scores(assessment), run_identities(out)
    identities.write_names(out, *zip(*((one.record.id, one.record.patient_id) for one in images), strict=True))
    # Of files, what is known again without their names.
    hashes = [file_hash(Path(path)) for path in about["checkpoints"]]
    config = identities.settings({**about, "checkpoints": hashes, "support": about["support"] is not None})
    facts = RunFacts(digest("evaluate", config, scores), out.name, str(about["dataset"]), "evaluate", config)
    with wandb_run(out, facts) as run:
        run.summarise(scores)
        run.do(lambda made: made.log(_tables_and_pictures(out, images, store, identities)))
    if run.complete:
        say_what_waits(out)


def _headline_scores(assessment: Assessment) -> dict[str, float]:
    """Name the scores; the ends of an interval are `NAME_low` and `NAME_high`, and the Dice is `lesion_dice`."""
    intervals = {DICE if name == "dice" else name: value for name, value in assessment.lesion.items()}
    intervals |= assessment.normal
    intervals |= {"pixels_f1": assessment.pixels.f1, "dice_empty_as_one": assessment.pixels.dice_empty_as_one}
    if assessment.labels is not None:
        intervals |= {"label_accuracy": assessment.labels.accuracy, "label_macro_f1": assessment.labels.macro_f1}
    scores = {
        "pixels_auc": assessment.roc.auc,
        "calibration_error": assessment.reliability.expected_calibration_error,
        **{name: getattr(assessment, name) for name in ("pixel_accuracy", "n_lesion", "n_normal", "n_patients")},
        **assessment.uncertainty,
    }
    for name, interval in intervals.items():
        scores |= interval_columns(name, interval)
    return scores


def _tables_and_pictures(
    out: Path, images: Sequence[ImageResult], store: Store, identities: Identities
) -> dict[str, Any]:
    import wandb

    header, *rows = image_table(images)
    types = {name: str if name in {"image", "patient", "label"} else float for name in header}
    shown = {**types, "image": identities.image, "patient": identities.patient}
    values = [[shown[name](one) for name, one in zip(header, row, strict=True)] for row in rows]
    # `cases.png` has names drawn into it.
    names = [path for path in sorted(out.glob("*.png")) if path.stem != "cases"]
    figures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in names}
    cases = _evaluated_cases(out, images, store, identities)
    return {"images": _data_table(types, values), **figures, **({"cases": cases} if cases else {})}


def _evaluated_cases(
    out: Path, images: Sequence[ImageResult], store: Store, identities: Identities
) -> list["wandb.Image"]:
    rows = {record.id: row for row, record in enumerate(store.records)}
    found = []
    for record_id, title in chosen_cases(images):
        row = rows[record_id]
        with Image.open(out / "masks" / f"{short_name(store.records[row].stem)}.png") as picture:
            prediction = np.asarray(picture) > 0
        truth = np.asarray(store.label_maps[row]) > 0
        found.append(
            _overlay(np.asarray(store.images[row]), truth, prediction, f"{identities.image(record_id)}: {title}")
        )
    return found


# What of a query is shown: each cell costs wandb's client some microseconds, and there are millions in a benchmark.
QUERY_COLUMNS: dict[str, type] = {
    "draw": int,
    **dict.fromkeys(("query", "patient", "label"), str),
    **dict.fromkeys(("dice", "iou", "hd95", "nsd", "detected", "false_positive", "false_positive_area"), float),
}


@dataclass(frozen=True, slots=True)
class SeedResults:
    """A row of the report as one training seed has it, shown by one run of wandb, and the same row over all seeds."""

    row: MethodResult
    over_seeds: MethodResult | None
    seed: int
    table: pa.Table

    def scores(self) -> dict[str, float]:
        """Return what the run ends with, as far as it is defined."""
        scores = interval_columns(DICE, self.row.dice) | interval_columns(SHARED, self.row.shared) | self.row.scores
        scores |= {"n_lesion": self.row.n_lesion, "n_shared": self.row.n_shared, "n_normal": self.row.n_normal}
        if self.over_seeds is not None:
            scores |= interval_columns(f"{DICE}_over_seeds", self.over_seeds.dice)
        return defined(scores)

    def results_hash(self) -> str:
        """Hash the results alone, whatever their order and wherever they lie."""
        keys = [(name, "ascending") for name in ("draw", "episode", "query")]
        rows = self.table.select(["draw", "episode", "query", "patient", *SCORES]).sort_by(keys)
        return sha256(repr(rows.to_pydict()).encode()).hexdigest()


def log_benchmark(
    folder: Path,
    group: str,
    config: Mapping[str, Any],
    table: pa.Table,
    rows: Sequence[MethodResult],
    reporter: Reporter,
) -> list[str]:
    """Log a finished benchmark: its trainings, as far as they were not logged live, and all its results.

    What is in wandb already is left out. The first failure of wandb ends it with a warning. `config` is resolved, as
    JSON values; the ids of the runs that were logged now are returned.
    """
    with reporter.step(f"wandb: {group}") as update:
        if not _log_trainings(folder, group):
            return []
        logged, index = list[str](), LoggedRuns(folder)
        identities = run_identities(folder, keep=config.get("tracking", {}).get("identities") == "keep")
        cases = [identities.case(case) for case in read_gallery(folder)]
        results = list(_by_seed(table, rows))
        for done, one in enumerate(results, start=1):
            facts = _result_facts(one, group, identities.settings(config))
            if facts.id not in index:
                with wandb_run(folder, facts) as run:
                    _log_results(run, one, cases, identities)
                if not run.complete:
                    return logged
                index.add(facts.id, facts.name)
                logged.append(facts.id)
            update(done, len(results), f"{len(logged)} runs logged")
    if logged:
        say_what_waits(folder)
    return logged


def _log_trainings(folder: Path, group: str) -> bool:
    """Log every training of the benchmark; return False once wandb fails."""
    models = folder / "models"
    for metrics in sorted(models.rglob(METRICS)):
        checkpoint = metrics.with_name("checkpoint.safetensors")
        if not checkpoint.is_file():
            continue
        facts = read_facts(checkpoint)
        run = training_run_facts(str(metrics.parent.relative_to(models)), group, asked_for(facts), facts)
        if not log_finished_training(metrics.parent, run, facts.get("kept_step")):
            return False
    return True


def _by_seed(table: pa.Table, rows: Sequence[MethodResult]) -> Iterator[SeedResults]:
    """Yield every method, target, number of shots and seed, in the order of seeds and of the report."""
    whole = {row.key: row for row in rows}
    targets = list(dict.fromkeys(row.target for row in rows))
    for seed in sorted(set(table["seed"].to_pylist())):
        of_seed = table.filter(pc.equal(table["seed"], seed))
        for row in summarise(of_seed, [name for name in targets if name in set(of_seed["target"].to_pylist())]):
            chosen = pc.and_(pc.equal(of_seed["target"], row.target), pc.equal(of_seed["method"], row.method))
            part = of_seed.filter(pc.and_(chosen, pc.equal(of_seed["shot"], row.shot)))
            yield SeedResults(row, whole.get(row.key), seed, part)


_PROTOCOL = ("protocol", "sources", "support_from", "draws", "draw_depth", "classic", "seed", "image_size", "encoder")


def _result_facts(results: SeedResults, group: str, config: Mapping[str, Any]) -> RunFacts:
    target, method, shot, seed = results.row.target, results.row.method, results.row.shot, results.seed
    first = results.table.slice(0, 1).to_pylist()[0]
    settings = config.get("methods", {}).get(method, {})
    about = {
        "benchmark": group,
        "target": target,
        "method": method,
        "shot": shot,
        "seed": seed,
        # A filter of wandb finds no run by a value that is null.
        **{name: first[name] or "none" for name in ("kind", "model", "trained_on", "control", "control_of")},
        "options": settings.get("options", {}),
        "network": config.get("models", {}).get(settings.get("model"), {}),
        "protocol": {name: config[name] for name in _PROTOCOL if name in config},
    }
    run_id = digest("benchmark", group, target, method, shot, seed, results.results_hash())
    return RunFacts(run_id, f"{target}/{method}/{shot}-shot/seed{seed}", group, "benchmark", about)


def _log_results(run: WandbRun, results: SeedResults, cases: Sequence[GalleryCase], identities: Identities) -> None:
    row, scores = results.row, results.scores()
    key = (row.target, row.method, row.shot, results.seed)
    own = [case for case in cases if (case.target, case.method, case.shot, case.seed) == key]

    def log(made: "wandb.Run") -> None:
        # The numbers of shots are the axis of a report's line plot, where every run is a point of its method's line.
        made.define_metric("shot")
        made.define_metric(f"{DICE}*", step_metric="shot")
        history = {name: value for name, value in scores.items() if name.startswith(DICE) and "seeds" not in name}
        pictures = {"cases": [_gallery_picture(case) for case in own]} if own else {}
        made.log({"shot": row.shot, **history, "queries": _query_table(results.table, identities), **pictures})

    run.do(log)
    run.summarise(scores)


def _query_table(table: pa.Table, identities: Identities) -> "wandb.Table":
    # Each name is in the table many times.
    shown = {"query": cache(identities.image), "patient": cache(identities.patient)}
    columns = [list(map(shown.get(name, lambda value: value), table[name].to_pylist())) for name in QUERY_COLUMNS]
    return _data_table(QUERY_COLUMNS, zip(*columns, strict=True))


def _gallery_picture(case: GalleryCase) -> "wandb.Image":
    score = case.label if case.dice is None else f"{case.label}, Dice {case.dice:.2f}"
    draw = "" if case.draw < 0 else f", draw {case.draw}"
    return _overlay(case.query.image, case.query.mask, case.prediction, f"{case.why}: {case.query.id}, {score}{draw}")


def _overlay(
    image: NDArray[np.uint8], truth: NDArray[np.bool_], prediction: NDArray[np.bool_], caption: str
) -> "wandb.Image":
    """Make an image, grey levels (H, W), whose true and predicted lesion, (H, W), can be switched on and off."""
    import wandb

    masks = {
        name: {"mask_data": mask.astype(np.uint8), "class_labels": {1: "lesion"}}
        for name, mask in (("truth", truth), ("prediction", prediction))
    }
    return wandb.Image(image, masks=masks, caption=caption)


def _data_table(types: Mapping[str, type], rows: Iterable[Sequence[Any]]) -> "wandb.Table":
    """Make a table whose columns have known types, by name; an undefined score is left empty."""
    import wandb

    table = wandb.Table(columns=list(types), dtype=list(types.values()))
    # Adding row by row checks every value against types that are known here: half a second for 3000 queries.
    table.data = [[None if value != value else value for value in row] for row in rows]  # NaN differs from itself
    return table


# What the Report's table of runs begins with; the rest is a click away.
RUN_COLUMNS = ["config:method.value", "config:shot.value", "config:seed.value", f"summary:{DICE}"]
WIDTH = 24  # of a grid of panels, in the service's units
EVERY_RUN = 1000  # panels show ten otherwise


def publish_report(folder: Path, benchmark: str, rows: Sequence[MethodResult], headline: str) -> str:
    """Save a Report about a benchmark that was logged, and return its address; a second call replaces it.

    Raises:
        UserError: without a login, without the library of reports, or where the service does not answer.
    """
    build_report("nobody", wandb_project(), benchmark, rows, headline)  # what is not installed is known before
    with wandb_environment(folder):
        waits = bool(waiting_runs(folder))
        if not logged_in():
            raise UserError(
                "wandb: there is no login, which a report needs; run `wandb login`, then this command again"
                + (f"; the runs were logged offline, so upload them: {sync_command(folder)}" if waits else "")
            )
        if waits:
            logger.warning("wandb: runs that are not uploaded are missing in the report: %s", sync_command(folder))
        try:
            return _save_report(folder, benchmark, rows, headline)
        except Exception as error:
            raise UserError(
                f"wandb: the report was not saved ({first_line(error)}); see `wandb status`, and try again"
            ) from error


def _save_report(folder: Path, benchmark: str, rows: Sequence[MethodResult], headline: str) -> str:
    import wandb

    entity = os.environ.get("WANDB_ENTITY") or wandb.Api().default_entity
    if entity is None:
        raise UserError("the login belongs to no user or team; set WANDB_ENTITY")
    report = build_report(entity, wandb_project(), benchmark, rows, headline)
    place = wandb_folder(folder) / "report.json"
    ids: dict[str, str] = json.loads(place.read_text()) if place.is_file() else {}
    key = f"{entity}/{wandb_project()}"
    report.id = ids.get(key, "")
    report.save()
    write_text(place, json.dumps(ids | {key: report.id}, indent=1) + "\n")
    url: str = report.url
    return url


def build_report(entity: str, project: str, benchmark: str, rows: Sequence[MethodResult], headline: str) -> "Report":
    """Build the Report, without any network request; `entity` is the user or team that it will belong to.

    For every dataset it has the project's table, shot curves per method with their spread over training seeds, the ends
    of the intervals, all scores, cases to look at, and all rows at the largest number of shots; then the trainings.

    Raises:
        UserError: if the library of reports is not installed.
    """
    wr = _report_library("reports.v2")
    blocks = [wr.H1("The answer"), wr.P(headline), wr.TableOfContents()]
    for target in dict.fromkeys(row.target for row in rows):
        blocks += _target_blocks(wr, benchmark, [row for row in rows if row.target == target])
    losses = {"Training loss": ["loss"], "Validation loss": ["validation"]}
    curves = _side_by_side(wr, losses, 10, x="Step")
    trainings = wr.PanelGrid(runsets=[_runset(wr, "trainings", benchmark, "train")], panels=curves)
    report: Report = wr.Report(
        project=project,
        entity=entity,
        title=f"Lesion Dice over annotated images, {benchmark}"[:128],  # as long as a title may be
        description=headline,
        blocks=[*blocks, wr.H1("Trainings"), trainings],
        width="fluid",
    )
    return report


def _report_library(module: str) -> Any:
    """Import a module of the library of reports, which exports its classes in a way that type checkers do not see."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its own code
            return import_module(f"wandb_workspaces.{module}")
    except ImportError as error:
        raise UserError(
            'wandb reports need a library of their own; install it: pip install "fewshot-bus[report]"'
        ) from error


def _target_blocks(wr: Any, benchmark: str, rows: Sequence[MethodResult]) -> list[Any]:
    target, most = rows[0].target, max(row.shot for row in rows)
    grouping = {
        "groupby": wr.Config("method"),
        "groupby_aggfunc": "mean",
        "groupby_rangefunc": "minmax",
        "max_runs_to_show": EVERY_RUN,
    }
    dice = {
        "Lesion Dice over annotated images, on the same lesion images": [SHARED],
        "Ends of its 95 % interval over patients and draws": [f"{SHARED}_low", f"{SHARED}_high"],
    }
    axes = {"x": "shot", "title_x": "annotated images", "title_y": "lesion Dice"}
    bars = wr.BarPlot(
        title="Lesion Dice", metrics=[DICE], max_bars_to_show=100, layout=wr.Layout(0, 0, WIDTH, 12), **grouping
    )
    curves = _runset(wr, target, benchmark, target=target, control="none")
    at_most = _runset(wr, f"{target}, {most}-shot", benchmark, target=target, shot=most)
    return [
        wr.H1(target),
        wr.MarkdownBlock(table_of(rows).markdown(raw=True).removesuffix("\n")),
        wr.H2("Shot curves"),
        wr.P("Lines are means over training seeds, and bands go from the lowest seed to the highest. No controls."),
        wr.PanelGrid(runsets=[curves], panels=[*_side_by_side(wr, dice, 12, **axes, **grouping), *_details(wr)]),
        wr.H2(f"Every method with {annotated_images(most)}"),
        wr.PanelGrid(runsets=[at_most], panels=[bars]),
    ]


def _runset(wr: Any, name: str, benchmark: str, job_type: str = "benchmark", **config: str | int) -> Any:
    """Select the runs of a benchmark with certain values in their configuration.

    They belong to the report's own project; a set with an entity of its own is looked up when it is built.
    """
    expr = _report_library("expr")
    filters = [expr.Metric("Group") == benchmark, expr.Metric("JobType") == job_type]
    filters += [expr.Config(key) == value for key, value in config.items()]
    chosen = expr.And(*filters)
    return wr.Runset(name=name, filters=chosen, order=[wr.OrderBy("Name", ascending=True)], pinned_columns=RUN_COLUMNS)


def _side_by_side(wr: Any, metrics: Mapping[str, list[str]], height: int, **options: Any) -> list[Any]:
    """Draw two line plots, by title, each half as wide as the grid."""
    half = WIDTH // 2
    return [
        wr.LinePlot(title=title, y=names, layout=wr.Layout(place * half, 0, half, height), **options)
        for place, (title, names) in enumerate(metrics.items())
    ]


def _details(wr: Any) -> list[Any]:
    scores = (DICE, "iou", "nsd", "hd95", "false_positive")
    axes = [wr.Config("method"), wr.Config("shot"), *map(wr.SummaryMetric, scores)]
    return [
        wr.ParallelCoordinatesPlot(
            title="All scores",
            columns=[wr.ParallelCoordinatesPlotColumn(axis) for axis in axes],
            layout=wr.Layout(0, 12, WIDTH, 10),
        ),
        wr.MediaBrowser(
            title="Cases: truth and prediction can be switched on and off",
            media_keys=["cases"],
            num_columns=4,
            layout=wr.Layout(0, 22, WIDTH, 12),
        ),
        wr.RunComparer(diff_only="split", layout=wr.Layout(0, 34, WIDTH, 10)),
    ]
