"""`python -m tests.benchmarks [NAME]...` measures speed, and says of each figure whether what is wanted of it holds."""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from episodes.io.files import write_text
from episodes.io.yaml_json import read_json
from fewshot.results.tables import Table
from fewshot.terminal import output_console
from tests.benchmarks import (
    features_speed,
    memory,
    panet_speed,
    pooling_speed,
    precision_speed,
    predict_speed,
    sampler_speed,
    scoring_speed,
    startup_speed,
    statistics_speed,
    store_speed,
    threads_speed,
    workers_speed,
)
from tests.benchmarks.machine import busy_processor, commit, load, machine_facts, now
from tests.benchmarks.measurements import Measurement, figure, wanted_text

# In the order of the table; each is a title and what measures, which takes `full` where it can do more.
PARTS: dict[str, tuple[str, Callable[..., list[Measurement]]]] = {
    "features": ("Evaluation on cached features", features_speed.measure),
    "scoring": ("Scoring, as a share of a benchmark", scoring_speed.measure),
    "pooling": ("Masked average pooling", pooling_speed.measure),
    "panet": ("PANet in batches", panet_speed.measure),
    "store": ("Reading an episode from the store", store_speed.measure),
    "sampler": ("Episode sampler", sampler_speed.measure),
    "statistics": ("Crossed bootstrap", statistics_speed.measure),
    "precision": ("What auto stands for", precision_speed.measure),
    "workers": ("A benchmark in two processes", workers_speed.measure),
    "threads": ("Training on a busy machine", threads_speed.measure),
    "predict": ("Prediction of a folder", predict_speed.measure),
    "memory": ("Features on disk", memory.measure),
    "startup": ("Start of the command line", startup_speed.measure),
}
WITH_FULL = ("features", "panet", "memory")


def main(arguments: list[str] | None = None) -> int:
    """Measure the named parts; the status is 1 if one fails, or a figure is not what is wanted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measure speed as ratios in one run. The machine should be idle."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}; all if none is given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures; parts not measured now are kept")
    parser.add_argument(
        "--full", action="store_true", help=f"{', '.join(WITH_FULL)}: all of it, not a sample (an hour)"
    )
    parser.add_argument("--busy", action="store_true", help="keep a processor busy all the while")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    machine = machine_facts() | {"busy": options.busy}
    try:
        parts = kept_parts(options.json, machine)
    except ValueError as error:
        parser.error(str(error))
    with busy_processor() if options.busy else nullcontext():
        found, failed = measure_parts(options, machine, parts)
    print(conclusion(found, failed))
    return 1 if failed or any(measurement.holds is False for measurement in found) else 0


def measure_parts(
    options: argparse.Namespace, machine: dict[str, Any], parts: dict[str, Any]
) -> tuple[list[Measurement], list[str]]:
    """Measure the named parts, print each and put it among the parts of the file; besides, name those that fail."""
    found: list[Measurement] = []
    failed: list[str] = []
    for name in dict.fromkeys(options.names or PARTS):
        title, measure = PARTS[name]
        measure = partial(measure, full=True) if options.full and name in WITH_FULL else measure
        begin, before = perf_counter(), load()
        try:
            measurements = measure()
        except Exception:  # the other parts are worth their figures
            traceback.print_exc()
            failed.append(name)
            continue
        seconds = round(perf_counter() - begin, 1)
        found += measurements
        print_part(f"{title} ({seconds:.0f} s)", measurements)
        parts[name] = {
            "date": now(),
            "commit": commit(),
            "seconds": seconds,
            "load": [before, load()],
            "measurements": [asdict(measurement) for measurement in measurements],
        }
        if options.json:
            write_results(options.json, machine, parts)
    return found, failed


def kept_parts(path: Path | None, machine: dict[str, Any]) -> dict[str, Any]:
    """Read the parts that a file holds already, which have to be of this machine, with as many threads."""
    if path is None or not path.exists():
        return {}
    results: Any = read_json(path)
    if results["machine"] != machine:
        raise ValueError(f"{path} holds figures of another machine or setting: write to another file, or remove it")
    parts: dict[str, Any] = results["parts"]
    return parts


def write_results(path: Path, machine: dict[str, Any], parts: dict[str, Any]) -> None:
    ordered = {name: parts[name] for name in PARTS if name in parts}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"machine": machine, "parts": ordered}, indent=1, ensure_ascii=False) + "\n")


def print_part(title: str, measurements: Iterable[Measurement]) -> None:
    texts = [
        (
            measurement.what,
            "" if measurement.value is None else figure(measurement.value, measurement.unit),
            measurement.spread,
            wanted_text(measurement),
            {True: "yes", False: "NO", None: ""}[measurement.holds],
            measurement.note,
        )
        for measurement in measurements
    ]
    table = Table(
        ("what", "measured", "least to most", "wanted", "holds", "note"),
        texts,
        words=("what", "note"),
        best=[place for place, text in enumerate(texts) if text[4] == "NO"],
        title=title,
    )
    output_console().print(table.terminal())
    sys.stdout.flush()


def conclusion(found: Iterable[Measurement], failed: Iterable[str]) -> str:
    """Count what holds, and name what does not, what was not measured and what failed."""
    wanted = [measurement for measurement in found if measurement.wanted]
    lines = [f"{sum(measurement.holds is True for measurement in wanted)} of {len(wanted)} figures are as wanted"]
    for title, keys in (
        ("not as wanted", [measurement.key for measurement in wanted if measurement.holds is False]),
        ("not measured here", [measurement.key for measurement in wanted if measurement.value is None]),
        ("failed", list(failed)),
    ):
        lines += [f"{title}: {', '.join(keys)}"] if keys else []
    return "\n".join(lines)


if __name__ == "__main__":  # a measurement's own processes import this module as well
    sys.exit(main())
