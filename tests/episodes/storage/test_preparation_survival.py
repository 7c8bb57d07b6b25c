"""A preparation that is killed or out of space goes on, decodes nothing twice, and ends with the same bytes."""

import itertools
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from episodes.curation.policy import Policy
from episodes.errors import StorageError
from episodes.records import Record
from episodes.storage import preparation
from episodes.storage import preparation as row_decoding
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Store
from tests.episodes.made_pictures import SIZE, folders, made, random_picture, save

COUNT = 8
KEEP_FIRST = Policy("keep-first")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images; the fifth shows the same as the first."""
    root = tmp_path_factory.mktemp("dataset")
    for number in range(COUNT):
        made(root, f"n{number}", number, shape=(60, 70))
    save(root / "images" / "n4.png", random_picture(0, (60, 70)))
    return root


def records_of(root: Path) -> list[Record]:
    return [
        Record("made", path, (root / "masks" / path.name,), "benign", patient=path.stem)
        for path in sorted((root / "images").glob("*.png"))
    ]


@pytest.fixture(scope="module")
def records(dataset: Path) -> list[Record]:
    return records_of(dataset)


@pytest.fixture(scope="module")
def undisturbed(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return content(prepare_store(records, tmp_path_factory.mktemp("undisturbed"), SIZE, policy=KEEP_FIRST))


def content(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.folder.iterdir()}


@contextmanager
def decoded_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the images that are decoded in the block."""
    names: list[str] = []
    decode = row_decoding.read_image

    def noting(path: Path, frame: int | None) -> np.ndarray:
        names.append(path.stem)
        return decode(path, frame)

    with monkeypatch.context() as patch:
        patch.setattr(row_decoding, "read_image", noting)
        yield names


# Killed


# Prepares a store, and kills itself after a number of images or before a number of changes to the file system.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from episodes.curation.policy import Policy
from episodes.storage.preparation import prepare_store
from tests.episodes.made_pictures import SIZE
from tests.episodes.storage.test_preparation_survival import records_of

root, stores, images, changes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
left = [changes]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def count_changes(event, arguments):
    if event in ("os.rename", "os.remove", "os.rmdir") and str(stores) in str(arguments[0]):
        left[0] -= 1
        if left[0] == 0:
            die()

records = records_of(root)
sys.addaudithook(count_changes)
prepare_store(records, stores, SIZE, lambda done, total: die() if done == images else None, policy=Policy("keep-first"))
"""


def run_and_kill(dataset: Path, stores: Path, images: int = 0, changes: int = 0) -> int:
    """Prepare in another process, which dies after so many images or before so many changes; its exit status."""
    command = [sys.executable, "-c", PROGRAM, str(dataset), str(stores), str(images), str(changes)]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[2], timeout=60).returncode  # noqa: S603


@pytest.mark.parametrize("images", [1, 5, COUNT])
def test_a_preparation_killed_while_decoding_goes_on(
    images: int,
    dataset: Path,
    records: list[Record],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run_and_kill(dataset, tmp_path, images=images) == -signal.SIGKILL
    told: list[int] = []
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, lambda done, _: told.append(done), policy=KEEP_FIRST)
    assert sorted(names) == [f"n{number}" for number in range(images, COUNT)]
    assert told == list(range(images + 1, COUNT + 1))
    assert content(store) == undisturbed
    assert folders(tmp_path) == {store.folder.name}


def test_a_preparation_killed_before_any_change_of_names_goes_on(
    dataset: Path,
    records: list[Record],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed again and again in the same folder, each time one step later, from the last image to the store's name."""
    assert run_and_kill(dataset, tmp_path, images=COUNT) == -signal.SIGKILL
    statuses = list(itertools.takewhile(bool, (run_and_kill(dataset, tmp_path, changes=2) for _ in range(20))))
    assert set(statuses) == {-signal.SIGKILL}
    assert 3 <= len(statuses) < 20
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    assert names == []
    assert content(store) == undisturbed
    assert folders(tmp_path) == {store.folder.name}


def test_an_interruption_is_no_end_either(
    records: list[Record], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_store(records, tmp_path, SIZE, interrupt, policy=KEEP_FIRST)
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    assert sorted(names) == ["n3", "n4", "n5", "n6", "n7"]
    assert content(store) == undisturbed


# Losses


def interrupted(records: list[Record], stores: Path, images: int) -> Path:
    """The folder of a preparation that was interrupted after so many images."""

    def interrupt(done: int, total: int) -> None:
        if done == images:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_store(records, stores, SIZE, interrupt, policy=KEEP_FIRST)
    (partial,) = stores.glob(".*.partial")
    return partial


def half_a_line(partial: Path) -> None:
    journal = partial / "rows.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5])


def a_line_that_is_none(partial: Path) -> None:
    journal = partial / "rows.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5] + b"\xff" * 4 + b"\n")


def a_row_of_zeros(partial: Path) -> None:
    """After a loss of power the journal's line may be on the disk and the pixels not."""
    with (partial / "label_maps.npy").open("r+b") as file:
        file.seek(128 + 2 * SIZE[0] * SIZE[1])
        file.write(bytes(SIZE[0] * SIZE[1]))


def half_a_file(partial: Path) -> None:
    with (partial / "images.npy").open("r+b") as file:
        file.truncate(128 + 2 * SIZE[0] * SIZE[1] + 7)


def other_lines_after_them(partial: Path) -> None:
    journal = partial / "rows.jsonl"
    first = journal.read_bytes().splitlines(keepends=True)[0]
    journal.write_bytes(first * 20)


@pytest.mark.parametrize(
    ("loss", "intact"),
    [(half_a_line, 2), (a_line_that_is_none, 2), (a_row_of_zeros, 2), (half_a_file, 2), (other_lines_after_them, 1)],
)
def test_rows_that_were_lost_are_decoded_again(
    loss: object,
    intact: int,
    records: list[Record],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss(interrupted(records, tmp_path, 3))  # type: ignore[operator]
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    assert sorted(names) == [f"n{number}" for number in range(intact, COUNT)]
    assert content(store) == undisturbed


def test_what_was_begun_for_other_data_is_left_alone(records: list[Record], tmp_path: Path) -> None:
    partial = interrupted(records, tmp_path, 3)
    before = {path.name: path.read_bytes() for path in partial.iterdir()}
    prepare_store(records[1:], tmp_path, SIZE, policy=KEEP_FIRST)
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == before


# Threads


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_number_of_threads_changes_no_byte(
    threads: int, records: list[Record], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    assert content(prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST, threads=threads)) == undisturbed


# Full and read-only disks


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """What a process writes beyond that fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_known_before_anything_is_decoded(
    records: list[Record], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        decoded_names(monkeypatch) as names,
        files_no_larger_than(4096),
        pytest.raises(StorageError) as caught,
    ):
        prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    needed = 2 * (128 + COUNT * SIZE[0] * SIZE[1]) + 128 + COUNT * 48 * 48
    assert str(caught.value).startswith(f"{tmp_path}: made-24x32-")
    assert f" takes {needed:,} bytes there, and there is no room for them (File too large); free some" in str(
        caught.value
    )
    assert names == []
    assert folders(tmp_path) == set()  # what little room there is, is given back
    assert content(prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)) == undisturbed


@pytest.mark.parametrize("step", ["add", "_copy_rows", "_put_in_place"])
def test_a_disk_that_fills_up_meanwhile_costs_no_row(
    step: str,
    records: list[Record],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(row_decoding.RowJournal if step == "add" else preparation, step, fail)
        with pytest.raises(StorageError, match="No space left on device"):
            prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    assert len(names) == (COUNT if step == "add" else 0)
    assert content(store) == undisturbed


def test_a_store_that_cannot_get_its_name_is_not_lost(
    records: list[Record], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, name: Path) -> Path:
        raise OSError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(StorageError, match=r"made-.*: cannot be written \(Permission denied\)"):
            prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    with decoded_names(monkeypatch) as names:
        assert content(prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)) == undisturbed
    assert names == []


def test_a_file_system_that_cannot_take_space_beforehand_goes_without(
    records: list[Record], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    assert content(prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)) == undisturbed


def test_a_folder_that_cannot_be_written_is_named(records: list[Record], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=rf"^{tmp_path}/file/stores/made-.*: cannot be written \("):
        prepare_store(records, tmp_path / "file" / "stores", SIZE)
