"""A preparation that is killed or out of space goes on, decodes nothing twice, and ends with the same bytes."""

import itertools
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from episodes.curation.policy import Policy
from episodes.errors import StorageError
from episodes.records import Record
from episodes.storage import preparation
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
    decode = preparation.read_image

    def noting(path: Path, frame: int | None, full_scale: float | None) -> np.ndarray:
        names.append(path.stem)
        return decode(path, frame, full_scale)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "read_image", noting)
        yield names


def finished(partial: Path) -> set[str]:
    """The names of the images whose files are there whole."""
    return {f"n{path.stem}" for path in (partial / "decoded").glob("*.npz")}


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
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[3], timeout=60).returncode  # noqa: S603


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
    (partial,) = tmp_path.glob(".*.partial")
    before = finished(partial)  # threads may have been further than the images that were told of
    assert before >= {f"n{number}" for number in range(images)}
    told: list[int] = []
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, lambda done, _: told.append(done), policy=KEEP_FIRST)
    assert sorted(names) == sorted({f"n{number}" for number in range(COUNT)} - before)
    assert told == list(range(len(before) + 1, COUNT + 1))
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
    (partial,) = tmp_path.glob(".*.partial")
    before = finished(partial)
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    assert before >= {"n0", "n1", "n2"}
    assert before.isdisjoint(names)
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


def half_a_file(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def an_empty_file(file: Path) -> None:
    file.write_bytes(b"")


def a_file_of_zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def no_pixels(file: Path) -> None:
    """After a loss of power the file's name may be on the disk, and not all of its content."""
    content = file.read_bytes()
    place = content.index(b"images.npy") + 300
    file.write_bytes(content[:place] + bytes(100) + content[place + 100 :])


def another_s_file(file: Path) -> None:
    np.savez(file, images=np.zeros(SIZE, np.uint8))


def half_an_array(file: Path) -> None:
    """The arrays are written anew, whatever is in them."""
    (array,) = file.parents[1].glob("images.npy")
    array.write_bytes(b"half")


@pytest.mark.parametrize(
    ("loss", "lost"),
    [
        (half_a_file, {"n2"}),
        (an_empty_file, {"n2"}),
        (a_file_of_zeros, {"n2"}),
        (no_pixels, {"n2"}),
        (another_s_file, {"n2"}),
        (Path.unlink, {"n2"}),
        (half_an_array, set()),
    ],
)
def test_images_that_were_lost_are_decoded_again(
    loss: Callable[[Path], None],
    lost: set[str],
    records: list[Record],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partial = interrupted(records, tmp_path, 3)
    before = finished(partial)
    loss(partial / "decoded" / "2.npz")
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    assert before.intersection(names) == lost
    assert content(store) == undisturbed


def test_the_space_of_the_store_is_taken_before_the_first_image(records: list[Record], tmp_path: Path) -> None:
    partial = interrupted(records, tmp_path, 1)
    for name in ("images.npy", "label_maps.npy"):
        found = (partial / name).stat()
        assert found.st_size == 128 + COUNT * SIZE[0] * SIZE[1]
        assert found.st_blocks * 512 >= found.st_size


def test_what_was_begun_for_other_data_is_left_alone(records: list[Record], tmp_path: Path) -> None:
    partial = interrupted(records, tmp_path, 3)
    before = {path: path.read_bytes() for path in partial.rglob("*.np?")}
    assert len(before) >= 5
    prepare_store(records[1:], tmp_path, SIZE, policy=KEEP_FIRST)
    assert {path: path.read_bytes() for path in partial.rglob("*.np?")} == before


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
    needed = 2 * (128 + 2 * COUNT * SIZE[0] * SIZE[1]) + COUNT * (48 * 48 + 2048)
    assert str(caught.value).startswith(f"{tmp_path}: made-24x32-")
    assert f" takes {needed:,} bytes there, and there is no room for them (File too large); free some" in str(
        caught.value
    )
    assert names == []
    assert folders(tmp_path) == set()  # what little room there is, is given back
    assert content(prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)) == undisturbed


def test_a_disk_with_too_little_room_beside_the_store_is_known_as_well(
    records: list[Record], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, decoded_names(patch) as names:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(StorageError, match=r"takes [\d,]+ bytes there, and there is no room .* \(No space left"):
            prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    assert names == []
    assert folders(tmp_path) == set()
    assert content(prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)) == undisturbed


@pytest.mark.parametrize("step", ["savez", "_stack", "write_index", "_put_in_place"])
def test_a_disk_that_fills_up_meanwhile_costs_no_image(
    step: str,
    records: list[Record],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = itertools.count()
    allowed = 3 if step == "savez" else 0

    def fail(*arguments: Any, **named: Any) -> None:
        if next(calls) >= allowed:
            raise OSError(28, "No space left on device")
        savez(*arguments, **named)

    savez = np.savez
    place = {"savez": np, "write_index": preparation}.get(step, preparation._Preparation)
    with monkeypatch.context() as patch:
        patch.setattr(place, step, fail)
        with pytest.raises(StorageError, match="No space left on device"):
            prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    with decoded_names(monkeypatch) as names:
        store = prepare_store(records, tmp_path, SIZE, policy=KEEP_FIRST)
    assert len(names) == (COUNT - allowed if step == "savez" else 0)
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
