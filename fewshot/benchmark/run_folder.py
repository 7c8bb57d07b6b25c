"""A run's folder: the resolved configuration, the environment, and never two runs in one."""

import json
import platform
import subprocess
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from episodes.errors import UserError
from episodes.files import remove_folder, write_text
from episodes.json_text import read_json
from episodes.yaml_text import read_yaml
from fewshot.config import BenchmarkConfig

PACKAGES = ("fewshot-bus", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "albumentations")

# What may differ between two calls of the same run: where things lie, compute and report to, never what is computed.
PLACES = {"data_root", "cache", "device", "feature_memory_gib", "runs", "tracking"}


def open_run(config: BenchmarkConfig, inputs: Mapping[str, str], *, overwrite: bool) -> Path:
    """Make the run's folder, or find the same run there and continue it.

    Args:
        config: the resolved configuration.
        inputs: what else the results depend on, as a hash by key: `datasets.busi` and the like.
        overwrite: delete what another configuration or other data left there.

    Raises:
        UserError: if the folder holds the run of another configuration or of other data, or files that are no run's.
    """
    folder = config.runs / config.name
    resolved = config.model_dump(mode="json", exclude_unset=False)
    path = folder / "config.yaml"
    if folder.is_dir() and any(folder.iterdir()):
        if not path.is_file():
            raise UserError(f"{folder}: holds files that are no run's; choose another name or runs folder")
        differing = _differences(_read(path, read_yaml), resolved)
        differing += _changed(folder / "inputs.json", inputs)
        if differing and not overwrite:
            raise UserError(
                f"{folder}: the run there differs in {', '.join(differing)}; choose another name, or add --overwrite"
            )
        if differing:
            remove_folder(folder)
    write_text(path, yaml.safe_dump(resolved, sort_keys=False))
    write_text(folder / "inputs.json", json.dumps(inputs, indent=1) + "\n")
    write_text(folder / "environment.json", json.dumps(environment(), indent=1) + "\n")
    return folder


def environment() -> dict[str, Any]:
    """Versions, processor and commit: what a result may depend on beside its configuration."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _read(path: Path, parse: Callable[[Path], object]) -> object:
    """What a file says; None of a damaged one, which is like no other."""
    try:
        return parse(path)
    except (OSError, ValueError):
        return None


def _differences(found: object, expected: dict[str, Any]) -> list[str]:
    if not isinstance(found, dict):
        return ["everything"]
    keys = [key for key in expected if key not in PLACES]
    return [key for key in keys if found.get(key) != expected[key]]


def _changed(path: Path, inputs: Mapping[str, str]) -> list[str]:
    found = _read(path, read_json) if path.is_file() else {}
    if not isinstance(found, dict):
        return ["its inputs"]
    return [f"the content of {key}" for key in inputs if found.get(key, inputs[key]) != inputs[key]]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code that runs, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
