"""Pages of memory-mapped files: what was read does not stay resident, and nothing is lost."""

import mmap
import re
from pathlib import Path

import numpy as np
import pytest

from fewshot.features import release_pages

MIB = 2**20
STATUS = Path("/proc/self/status")


def resident_of_files() -> int:
    """MiB of mapped files that count as this process's memory."""
    found = re.search(r"^RssFile:\s+(\d+) kB", STATUS.read_text(), flags=re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


@pytest.mark.skipif(not STATUS.exists(), reason="no /proc here to read the resident memory from")
def test_what_was_read_does_not_stay_resident(tmp_path: Path) -> None:
    np.save(tmp_path / "bytes.npy", np.ones(64 * MIB, np.uint8))
    mapped = np.load(tmp_path / "bytes.npy", mmap_mode="r")
    before = resident_of_files()
    assert mapped.sum() == 64 * MIB
    assert resident_of_files() - before > 48
    release_pages(mapped)
    assert resident_of_files() - before < 8
    assert mapped.sum() == 64 * MIB  # and is there when it is asked for again


def test_what_was_written_is_not_lost(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(MIB)
        written = mmap.mmap(file.fileno(), MIB)
    written[:] = b"x" * MIB
    release_pages(written)
    assert written[:] == b"x" * MIB
    assert (tmp_path / "file").read_bytes() == b"x" * MIB


def test_arrays_in_memory_are_left_alone() -> None:
    array = np.arange(10)
    release_pages(array)
    release_pages(array[2:])
    assert array.tolist() == list(range(10))
