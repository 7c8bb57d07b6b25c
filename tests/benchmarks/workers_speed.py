"""A benchmark's fine-tuning in two processes, against one, with the same rows.

U-Net on ResNet-18, untrained, is fine-tuned on each of six support sets of a phantom scanner and segments the rest, on
one thread of each process. Starting the processes counts.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from fewshot.benchmark.run import run_benchmark
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.parsing import parse_config
from fewshot.results.run_files import RESULTS
from fewshot.stores import default_cache
from fewshot.terminal import Reporter
from tests.benchmarks.measurements import Measurement, at_least, interleaved, measured, ratios

N_IMAGES, SIZE, STEPS, DRAWS = 24, 128, 40, 3
DECODER = {"decoder_channels": [64, 32]}
SCANNERS = ("linear", "portable")


def measure() -> list[Measurement]:
    """How many times as fast two processes are as one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as folder:
            works = [partial(run, Path(folder), processes) for processes in (1, 2)]
            one, two = interleaved(*works, repeats=1, warm=False)
            tables = [(Path(folder) / str(processes) / "workers" / RESULTS).read_bytes() for processes in (1, 2)]
    finally:
        torch.set_num_threads(threads)
    if tables[0] != tables[1]:
        raise AssertionError("two processes have other rows than one")
    task = f"{2 * DRAWS} support sets, U-Net, {SIZE}x{SIZE}, {STEPS} steps"
    what = f"a benchmark's fine-tuning in two processes of one thread, times as fast as in one ({task})"
    return [
        measured("workers.two", what, ratios(one, two), "x", wanted=at_least(1)),
        measured("workers.one", "... in one process", one, "s"),
    ]


def run(folder: Path, processes: int) -> None:
    tree = {
        "name": "workers",
        "image_size": SIZE,
        "cache": str(default_cache()),
        "runs": str(folder / str(processes)),
        "device": "cpu",
        "processes": processes,
        "datasets": {name: {"phantom": {"scanner": name, "n_images": N_IMAGES, "size": SIZE}} for name in SCANNERS},
        "sources": [SCANNERS[0]],
        "targets": [SCANNERS[1]],
        "shots": [1, 5],
        "draws": DRAWS,
        "draw_depth": 5,
        "encoder": {"name": "resnet18"},
        "models": {"unet": {"network": "unet", "levels": [0, 1, 2], "output_stride": 8, "options": DECODER}},
        "methods": {"U-Net fine-tuned": {"method": "fine-tuned", "model": "unet", "options": {"steps": STEPS}}},
    }
    run_benchmark(parse_config(tree, BenchmarkConfig, "workers"), Reporter(Console(quiet=True)))
