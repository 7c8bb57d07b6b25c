"""Fixtures that several folders of tests share."""

import os
from pathlib import Path

import pytest

# Two busy cores slow torch's thread pool many times: tests run on one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets, named by FEWSHOT_DATA or lying beside the checkout."""
    folder = Path(os.environ.get("FEWSHOT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real datasets at {folder}; set FEWSHOT_DATA to the folder that holds them")
    return folder
