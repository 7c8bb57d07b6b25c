"""Fixtures that several folders of tests share."""

import os
from pathlib import Path

import hypothesis
import pytest

from episodes.datasets import read_dataset
from episodes.phantoms.layouts import prepare_phantoms
from episodes.phantoms.population import PhantomSpec
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection

# A slow machine is no fault. Continuous integration tries the same examples each time, elsewhere a run tries others.
PATIENT = {"suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("patient", **PATIENT)
hypothesis.settings.register_profile("reproducible", derandomize=True, **PATIENT)
hypothesis.settings.load_profile("patient")
if os.environ.get("CI"):
    hypothesis.settings.load_profile("reproducible")

# Two busy cores slow torch's thread pool many times: tests run on one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets, named by FEWSHOT_DATA or lying beside the checkout."""
    folder = Path(os.environ.get("FEWSHOT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real datasets at {folder}; set FEWSHOT_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def linear_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """24 phantoms of 8 patients at 64x64, where tests train."""
    return phantom_collection("linear", tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="session")
def portable_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """24 phantoms of another scanner, where tests adapt."""
    return phantom_collection("portable", tmp_path_factory.mktemp("portable"))


def phantom_collection(scanner: str, folder: Path, n_images: int = 24) -> Collection:
    root = prepare_phantoms(PhantomSpec(scanner, n_images, size=64), folder)
    return Collection([prepare_store(read_dataset("phantom", root), folder / "stores", (64, 64))])
