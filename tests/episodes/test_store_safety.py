"""The store is never stale, never half-written, and safe for several processes at once."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes import store as store_module
from episodes.records import Record
from episodes.store import Store, prepare_store
from tests.episodes.made_pictures import SIZE, box, folders, made, one_of_each, random_picture, save


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return one_of_each(tmp_path / "dataset")


# Never stale


def changed_image(record: Record) -> Record:
    save(record.image, random_picture(99, (40, 50)))
    return record


def changed_mask(record: Record) -> Record:
    save(record.masks[0], 255 - box((40, 50)))
    return record


@pytest.mark.parametrize(
    "change",
    [
        changed_image,
        changed_mask,
        lambda record: replace(record, label="malignant"),
        lambda record: replace(record, patient="another"),
        lambda record: replace(record, masks=()),
        lambda record: replace(record, mask_format="colour", masks=()),
        lambda record: replace(record, spacing=(0.1, 0.1)),
        lambda record: replace(record, split="train"),
        lambda record: replace(record, extra={"Doppler": "No"}),
    ],
    ids=["image", "mask", "label", "patient", "masks", "format", "spacing", "split", "extra"],
)
def test_a_changed_record_leads_to_another_store(
    change: Callable[[Record], Record], records: list[Record], tmp_path: Path
) -> None:
    old = prepare_store(records, tmp_path / "stores", SIZE)
    pixels = old.images[:].copy()
    new = prepare_store([change(records[0]), *records[1:]], tmp_path / "stores", SIZE)
    assert new.folder != old.folder
    assert np.array_equal(Store.open(old.folder).images, pixels)  # its readers are not disturbed


def test_added_and_removed_records_lead_to_other_stores(records: list[Record], tmp_path: Path) -> None:
    given = [records, records[:-1], [*records, made(tmp_path / "dataset", "e", 5)]]
    stores = [prepare_store(some, tmp_path / "stores", SIZE) for some in given]
    assert len({store.folder for store in stores}) == 3
    assert [len(store.images) for store in stores] == [4, 3, 5]


def test_another_size_is_another_store(records: list[Record], tmp_path: Path) -> None:
    small, large = (prepare_store(records, tmp_path / "stores", size) for size in (SIZE, (48, 64)))
    assert small.images.shape[1:] == SIZE
    assert large.images.shape[1:] == (48, 64)


def test_a_moved_dataset_keeps_its_store(records: list[Record], tmp_path: Path) -> None:
    store = prepare_store(records, tmp_path / "stores", SIZE)
    shutil.move(tmp_path / "dataset", tmp_path / "moved")
    moved = [
        replace(
            record,
            image=tmp_path / "moved" / "images" / record.image.name,
            masks=tuple(tmp_path / "moved" / "masks" / path.name for path in record.masks),
        )
        for record in records
    ]
    again = prepare_store(moved, tmp_path / "stores", SIZE)
    assert again.folder == store.folder
    assert all(record.image.is_file() for record in again.records)


# Never half-written


def test_a_crash_while_decoding_leaves_no_store(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = store_module.read_image

    def crash(path: Path) -> NDArray[np.uint8]:
        if path == records[0].image:
            raise KeyboardInterrupt
        return decode(path)

    monkeypatch.setattr(store_module, "read_image", crash)
    with pytest.raises(KeyboardInterrupt):
        prepare_store(records, tmp_path / "stores", SIZE)
    assert folders(tmp_path / "stores") == set()
    monkeypatch.undo()
    assert len(prepare_store(records, tmp_path / "stores", SIZE).images) == 4


def test_what_a_killed_process_left_is_not_taken_for_a_store(records: list[Record], tmp_path: Path) -> None:
    """A process that is killed outright cannot tidy up."""
    parent = tmp_path / "stores"
    folder = prepare_store(records, parent, SIZE).folder
    killed = folder.rename(folder.with_name(f".{folder.name}.12345.partial"))
    (killed / "index.json").unlink()
    store = prepare_store(records, parent, SIZE)
    assert store.folder == folder
    assert len(store.images) == 4


def test_a_folder_without_an_index_is_replaced(records: list[Record], tmp_path: Path) -> None:
    folder = prepare_store(records, tmp_path / "stores", SIZE).folder
    (folder / "index.json").unlink()
    (folder / "images.npy").write_bytes(b"half of it")
    store = prepare_store(records, tmp_path / "stores", SIZE)
    assert store.folder == folder
    assert len(store.images) == 4


def test_another_process_that_was_faster_is_not_overwritten(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "stores"
    inodes: list[int] = []

    def be_overtaken(done: int, total: int) -> None:
        if done == 1:
            with monkeypatch.context() as other:
                other.setattr(store_module.os, "getpid", lambda: -1)
                inodes.append(prepare_store(records, parent, SIZE).folder.stat().st_ino)

    store = prepare_store(records, parent, SIZE, be_overtaken)
    assert store.folder.stat().st_ino == inodes[0]
    assert folders(parent) == {store.folder.name}
    assert len(store.images) == 4


def test_several_processes_prepare_one_store(tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    for number in range(30):
        made(root, f"n{number}", number, shape=(80, 80))
    program = (
        "import sys; from pathlib import Path\n"
        "from episodes.datasets import read_dataset; from episodes.store import prepare_store\n"
        "root, stores = map(Path, sys.argv[1:])\n"
        "print(prepare_store(read_dataset('folder', root), stores, (64, 64)).images.sum())"
    )
    command = [sys.executable, "-c", program, str(root), str(tmp_path / "stores")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]  # noqa: S603
    sums = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(set(sums)) == 1
    assert len(folders(tmp_path / "stores")) == 1
