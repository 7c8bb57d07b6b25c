"""A benchmark of every method on three phantom scanners, small enough to run in a test."""

from pathlib import Path
from typing import Any

from rich.console import Console

from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.parsing import parse_config
from fewshot.terminal import Reporter

PHANTOMS = {
    "linear": {"phantom": {"scanner": "linear", "n_images": 12, "size": 64}},
    "highfreq": {"phantom": {"scanner": "highfreq", "n_images": 12, "size": 64}},
    "portable": {"phantom": {"scanner": "portable", "n_images": 24, "size": 64}},
}
PANET = {"network": "panet", "levels": [2], "output_stride": 8}
UNET = {"network": "unet", "levels": [1, 2], "output_stride": 8, "options": {"decoder_channels": [16]}}
TRAIN = {"steps": 3, "batch_size": 2, "save_every": 1}
MODELS = {"panet-untrained": PANET, "panet": {**PANET, "train": TRAIN}, "unet": {**UNET, "train": TRAIN}}
METHODS = {
    "empty": {"method": "empty"},
    "centre-ellipse": {"method": "centre-ellipse"},
    "PANet untrained": {"method": "prototypes", "model": "panet-untrained"},
    "PANet": {"method": "prototypes", "model": "panet"},
    "PANet source prototypes": {"method": "source-prototypes", "model": "panet"},
    "U-Net": {"method": "zero-shot", "model": "unet"},
    "U-Net fine-tuned": {"method": "fine-tuned", "model": "unet", "options": {"steps": 2}},
}


def tiny_tree(folder: Path, **changes: Any) -> dict[str, Any]:
    """The configuration as YAML gives it; everything it makes lies in a folder. Keywords replace keys."""
    return {
        "name": "tiny",
        "image_size": 64,
        "cache": str(folder / "cache"),
        "runs": str(folder / "runs"),
        "device": "cpu",
        "processes": 1,
        "datasets": PHANTOMS,
        "sources": ["linear", "highfreq"],
        "targets": ["portable"],
        "shots": [1, 2],
        "draws": 2,
        "draw_depth": 2,
        "encoder": {"name": "test_efficientnet"},
        "models": MODELS,
        "methods": METHODS,
        **changes,
    }


def tiny_benchmark(folder: Path, **changes: Any) -> BenchmarkConfig:
    return parse_config(tiny_tree(folder, **changes), BenchmarkConfig, "tiny")


def silent() -> Reporter:
    return Reporter(Console(quiet=True))
