"""The store: the pixels of plain Pillow, records whole, and a readable line for what cannot be read."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from episodes.datasets import read_dataset
from episodes.errors import DatasetError
from episodes.records import Record
from episodes.storage import store as store_module
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection, DamagedStoreError, Pixels, Store, array_header, tree_crc
from tests.episodes.made_pictures import SIZE, folders, made, one_of_each, random_picture, save


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return one_of_each(tmp_path / "dataset")


# What is in it


def test_pixels_are_those_of_plain_pillow(records: list[Record], tmp_path: Path) -> None:
    store = prepare_store(records, tmp_path / "stores", SIZE)
    assert store.images.shape == store.label_maps.shape == (4, *SIZE)
    assert store.images[:].dtype == store.label_maps[:].dtype == np.uint8
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
    for pixels in (store.images, store.label_maps):
        assert isinstance(pixels[0], np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            pixels[0][0, 0] = 1


@given(shape=st.lists(st.integers(1, 10**9), min_size=1, max_size=4).map(tuple))
def test_a_header_is_numpy_s_own(shape: tuple[int, ...]) -> None:
    written = BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "|u1", "fortran_order": False, "shape": shape})
    assert array_header(shape) == written.getvalue()
    assert len(array_header(shape)) == 128


def test_a_store_travels_without_its_pixels(records: list[Record], tmp_path: Path) -> None:
    """Data workers that do not fork get it pickled."""
    store = prepare_store(records, tmp_path / "stores", (256, 256))
    collection = Collection([store])
    collection.image("made/a"), collection.label_map("made/a")
    sent = pickle.dumps(collection)
    assert len(sent) < 10_000 < store.images[:].nbytes
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


def test_a_lesion_between_the_pixels_of_the_working_size_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [made(tmp_path, "a", 0), made(tmp_path, "b", 1)]
    speck = np.zeros((40, 50), np.uint8)
    speck[0, 0] = 255
    save(records[1].masks[0], speck)
    store = prepare_store(records, tmp_path / "stores", (8, 8))
    assert [record.label for record in store.records] == ["benign", "benign"]
    assert store.label_maps[1].sum() == 1
    assert not caplog.messages


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
    """Write another index, with its own checksum: what is wrong with it is not that it lost bytes."""

    def apply(path: Path) -> None:
        index = json.loads(path.read_text())
        del index["crc32"]
        change(index)
        path.write_text(json.dumps({**index, "crc32": tree_crc(index)}))

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_text(path.read_text().replace('"patient-a"', '"patient-b"')),
        rewritten(lambda index: index.pop("version")),
        rewritten(lambda index: index.update(version="two")),
        rewritten(lambda index: index.pop("rows")),
        rewritten(lambda index: index.update(rows=[])),
        rewritten(lambda index: index["rows"].append(index["rows"][0])),
        rewritten(lambda index: index["rows"][0]["record"].pop("label")),
        rewritten(lambda index: index["rows"][0]["record"].update(label="harmless")),
        rewritten(lambda index: index["rows"][0]["record"].update(masks="a.png")),
        rewritten(lambda index: index["rows"][0].update(height=0)),
        rewritten(lambda index: index.update(size=[24])),
        rewritten(lambda index: index.update(size=[24, -32])),
        rewritten(lambda index: index.pop("policy")),
        rewritten(lambda index: index.update(dropped=[{"id": "made/e"}])),
    ],
)
def test_a_damaged_index_is_named(damage: Callable[[Path], None], records: list[Record], tmp_path: Path) -> None:
    folder = prepare_store(records, tmp_path / "stores", SIZE).folder
    damage(folder / "index.json")
    with pytest.raises(DatasetError) as caught:
        Store.open(folder)
    assert str(caught.value) == (
        f"{folder / 'index.json'}: damaged; delete the folder {folder} and give the same command again, which makes it"
        " anew"
    )


def test_another_version_s_store_is_refused(records: list[Record], tmp_path: Path) -> None:
    folder = prepare_store(records, tmp_path / "stores", SIZE).folder
    rewritten(lambda index: index.update(version=99))(folder / "index.json")
    with pytest.raises(DatasetError, match="a store of version 99; delete the folder"):
        Store.open(folder)


@pytest.mark.parametrize("name", ["images.npy", "label_maps.npy"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:500]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b""),
        lambda path: np.save(path, np.zeros((5, *SIZE), np.uint8)),
        lambda path: np.save(path, np.zeros((4, *SIZE), np.float32)),
        lambda path: np.save(path, np.array([{"a": "pickle"}]), allow_pickle=True),
    ],
)
def test_arrays_that_are_not_as_they_were_written_are_named_before_they_are_read(
    damage: Callable[[Path], None], name: str, records: list[Record], tmp_path: Path
) -> None:
    """To read behind the end of a mapped file would kill the process."""
    store = prepare_store(records, tmp_path / "stores", SIZE)
    damage(store.folder / name)
    with pytest.raises(DamagedStoreError, match=f"^{store.folder / name}: damaged; delete the folder {store.folder} "):
        Store.open(store.folder)


# Damaged pixels


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "read", [lambda p: p[1], lambda p: p[-3], lambda p: p[:2], lambda p: p[[0, 1]], lambda p: p[:, 0]]
)
@pytest.mark.parametrize("name", ["images", "label_maps"])
def test_an_image_is_checked_however_it_is_read(
    name: str, read: Callable[[Pixels], object], records: list[Record], tmp_path: Path
) -> None:
    folder = prepare_store(records, tmp_path / "stores", SIZE).folder
    path = folder / f"{name}.npy"
    flip(path, 128 + SIZE[0] * SIZE[1] + 7)  # of the second
    pixels: Pixels = getattr(Store.open(folder), name)
    for whole in (pixels[0], pixels[2:], pixels[[3, 0]], pixels[np.array([True, False, True, True])]):
        assert whole.size
    with pytest.raises(DamagedStoreError, match=f"^{path}: damaged where it holds made/b; delete the folder"):
        read(pixels)


def test_a_process_checks_an_image_once(records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr(store_module, "crc32", lambda content: checked.append(1) or crc32(content))
    store = prepare_store(records, tmp_path / "stores", SIZE)
    checked.clear()
    for _ in range(3):
        store.images[1], store.images[:3], store.label_maps[1]
    assert len(checked) == 4


def test_what_is_known_to_be_damaged_is_made_anew(
    records: list[Record], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At once where the files show it, and where every image is checked."""
    folder = prepare_store(records, tmp_path / "stores", SIZE).folder
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    for name, place, check_pixels in (("index.json", 300, False), ("images.npy", 1, False), ("images.npy", 900, True)):
        flip(folder / name, place)
        caplog.clear()
        prepare_store(records, tmp_path / "stores", SIZE, check_pixels=check_pixels)
        assert {path: path.read_bytes() for path in folder.iterdir()} == whole
        assert caplog.messages[0].startswith(f"{folder / name}: damaged")
        assert caplog.messages[0].endswith(": it is made anew")
    prepare_store(records, tmp_path / "stores", SIZE, check_pixels=True)
    assert folders(tmp_path / "stores") == {folder.name}


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
