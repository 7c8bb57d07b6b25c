"""The store: the pixels of plain Pillow, never stale, never half-written, safe for several processes at once."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from episodes import store as store_module
from episodes.datasets import read_dataset
from episodes.errors import DatasetError
from episodes.records import Label, Record
from episodes.store import Collection, Store, prepare_store

SIZE = (24, 32)  # H, W


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def random_picture(seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def box(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A lesion in the middle quarter."""
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 4 : 3 * shape[0] // 4, shape[1] // 4 : 3 * shape[1] // 4] = 255
    return mask


def made(root: Path, name: str, seed: int, label: Label = "benign", shape: tuple[int, int] = (40, 50)) -> Record:
    image = save(root / "images" / f"{name}.png", random_picture(seed, shape))
    masks = () if label == "normal" else (save(root / "masks" / f"{name}.png", box(shape)),)
    return Record("made", image, masks, label, patient=f"patient-{name}")


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    root = tmp_path / "dataset"
    return [
        made(root, "b", 0),
        made(root, "a", 1, "malignant", (61, 33)),
        made(root, "c", 2, "normal"),
        made(root, "d", 3, "unknown"),
    ]


def folders(parent: Path) -> set[str]:
    return {path.name for path in parent.iterdir()} if parent.is_dir() else set()


# What is in it


def test_pixels_are_those_of_plain_pillow(records: list[Record], tmp_path: Path) -> None:
    store = prepare_store(records, tmp_path / "stores", SIZE)
    assert store.images.shape == store.label_maps.shape == (4, *SIZE)
    assert store.images.dtype == store.label_maps.dtype == np.uint8
    values = {"normal": 0, "benign": 1, "malignant": 2, "unknown": 3}
    for row, record in enumerate(store.records):
        with Image.open(record.image) as image:
            assert store.original_sizes[row] == (image.height, image.width)
            resized = image.resize(SIZE[::-1], Image.Resampling.BILINEAR)
        assert np.array_equal(store.images[row], np.asarray(resized))
        expected = np.zeros(SIZE, np.uint8)
        for path in record.masks:
            with Image.open(path) as mask:
                nearest = mask.resize(SIZE[::-1], Image.Resampling.NEAREST)
            expected[np.asarray(nearest) > 0] = values[record.label]
        assert np.array_equal(store.label_maps[row], expected)


def test_rows_are_sorted_by_id_whatever_the_order_given(records: list[Record], tmp_path: Path) -> None:
    store = prepare_store(records, tmp_path / "stores", SIZE)
    assert [record.id for record in store.records] == ["made/a", "made/b", "made/c", "made/d"]
    assert prepare_store(records[::-1], tmp_path / "stores", SIZE).folder == store.folder


def test_records_come_back_whole(records: list[Record], tmp_path: Path) -> None:
    facts = {"split": "test", "spacing": (0.1, 0.12), "extra": {"Doppler": "Yes", "Gerät": "ä"}}
    given = sorted([replace(record, **facts) for record in records], key=lambda record: record.id)
    store = prepare_store(given, tmp_path / "stores", SIZE)
    assert list(store.records) == given
    assert Store.open(store.folder).records == store.records


def test_arrays_are_mapped_and_cannot_be_changed(records: list[Record], tmp_path: Path) -> None:
    store = prepare_store(records, tmp_path / "stores", SIZE)
    for array in (store.images, store.label_maps):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1


def test_a_store_travels_without_its_pixels(records: list[Record], tmp_path: Path) -> None:
    """Data workers that do not fork get it pickled."""
    store = prepare_store(records, tmp_path / "stores", (256, 256))
    collection = Collection([store])
    collection.image("made/a"), collection.label_map("made/a")
    sent = pickle.dumps(collection)
    assert len(sent) < 10_000 < store.images.nbytes
    arrived = pickle.loads(sent)  # noqa: S301
    assert np.array_equal(arrived.image("made/a"), collection.image("made/a"))


def test_progress_is_told_image_by_image_and_not_at_all_the_second_time(records: list[Record], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    prepare_store(records, tmp_path / "stores", SIZE, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    prepare_store(records, tmp_path / "stores", SIZE, lambda done, total: told.append((done, total)))
    assert len(told) == 4


# Patients and labels by sight


def test_near_duplicates_become_one_patient(tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    picture = random_picture(7, (96, 96))
    records = [made(root, name, seed, shape=(96, 96)) for seed, name in enumerate("pqr")]
    save(records[0].image, picture)
    save(records[2].image, (picture // 2 + 20).astype(np.uint8))  # the same picture with another gain
    store = prepare_store(records, tmp_path / "stores", SIZE)
    assert [record.patient for record in store.records] == ["patient-p", "patient-q", "patient-p"]


def test_a_lesion_that_vanishes_at_the_working_size_is_a_normal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [made(tmp_path, "a", 0), made(tmp_path, "b", 1)]
    speck = np.zeros((40, 50), np.uint8)
    speck[0, 0] = 255
    save(records[1].masks[0], speck)
    store = prepare_store(records, tmp_path / "stores", (8, 8))
    assert [record.label for record in store.records] == ["benign", "normal"]
    assert "made/b: labelled benign, but no pixel of its mask is left: taken as normal" in caplog.text
    assert "made/a" not in caplog.text


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


# What cannot be prepared or read


def test_no_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no records to prepare"):
        prepare_store([], tmp_path, SIZE)


@pytest.mark.parametrize("which", ["image", "mask"])
def test_a_missing_file_is_named(which: str, records: list[Record], tmp_path: Path) -> None:
    path = records[0].image if which == "image" else records[0].masks[0]
    path.unlink()
    with pytest.raises(DatasetError, match=rf"^{path}: cannot be read \(.*\); restore the file$"):
        prepare_store(records, tmp_path / "stores", SIZE)


def test_a_damaged_image_is_named_and_leaves_no_store(records: list[Record], tmp_path: Path) -> None:
    records[1].image.write_bytes(records[1].image.read_bytes()[:100])
    with pytest.raises(DatasetError, match=f"^{records[1].image} cannot be decoded"):
        prepare_store(records, tmp_path / "stores", SIZE)
    assert folders(tmp_path / "stores") == set()


def rewritten(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        index = json.loads(path.read_text())
        change(index)
        path.write_text(json.dumps(index))

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        rewritten(lambda index: index.pop("version")),
        rewritten(lambda index: index.pop("rows")),
        rewritten(lambda index: index["rows"][0]["record"].pop("label")),
    ],
)
def test_a_damaged_index_is_named(damage: Callable[[Path], None], records: list[Record], tmp_path: Path) -> None:
    folder = prepare_store(records, tmp_path / "stores", SIZE).folder
    damage(folder / "index.json")
    with pytest.raises(DatasetError) as caught:
        Store.open(folder)
    assert str(caught.value) == (
        f"{folder / 'index.json'}: damaged; delete its folder and run `fewshot data prepare` again"
    )


def test_another_version_s_store_is_refused(records: list[Record], tmp_path: Path) -> None:
    folder = prepare_store(records, tmp_path / "stores", SIZE).folder
    rewritten(lambda index: index.update(version=99))(folder / "index.json")
    with pytest.raises(DatasetError, match="a store of version 99; run `fewshot data prepare` again"):
        Store.open(folder)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:500])])
def test_damaged_arrays_are_named(damage: Callable[[Path], None], records: list[Record], tmp_path: Path) -> None:
    store = prepare_store(records, tmp_path / "stores", SIZE)
    damage(store.folder / "images.npy")
    with pytest.raises(DatasetError, match=f"^{store.folder / 'images.npy'}: damaged; delete its folder"):
        Store.open(store.folder).images  # noqa: B018


# Several stores as one


def test_a_collection_finds_records_of_all_its_stores(
    linear_phantoms: Collection, portable_phantoms: Collection
) -> None:
    both = Collection([*linear_phantoms.stores, *portable_phantoms.stores])
    assert both.records == (*linear_phantoms.records, *portable_phantoms.records)
    for row in (0, 7):
        for single in (linear_phantoms, portable_phantoms):
            store = single.stores[0]
            name = store.records[row].id
            assert np.array_equal(both.image(name), store.images[row])
            assert np.array_equal(both.label_map(name), store.label_maps[row])


def test_an_unknown_record_is_named(linear_phantoms: Collection) -> None:
    with pytest.raises(DatasetError, match="busi/benign: no such record in these stores"):
        linear_phantoms.image("busi/benign")


def test_phantoms_survive_the_store(linear_phantoms: Collection) -> None:
    """At their own size nothing is resampled."""
    root = linear_phantoms.records[0].image.parents[1]
    for record in read_dataset("phantom", root)[:3]:
        with Image.open(record.image) as image:
            assert np.array_equal(linear_phantoms.image(record.id), np.asarray(image))
