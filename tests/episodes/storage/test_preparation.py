"""A store is never stale, follows its policy, and is prepared by one process at a time."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.curation.policy import Corrections, CuratedList, Dropped, Policy, Rename
from episodes.errors import DatasetError
from episodes.records import Record
from episodes.storage import preparation
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Store
from tests.episodes.made_pictures import SIZE, box, folders, made, one_of_each, random_picture, save


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return one_of_each(tmp_path / "dataset")


# Never stale


def changed_image(record: Record) -> Record:
    save(record.image, random_picture(99, (40, 50)))
    return record


def changed_mask(record: Record) -> Record:
    save(record.masks[0], np.roll(box((40, 50)), 5))
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


# Follows its policy


@pytest.fixture
def repeated(tmp_path: Path) -> list[Record]:
    """`a` and `b` show the same, and `c` and `d`, of which one must be labelled wrongly; `e` is alone."""
    root = tmp_path / "repeated"
    records = [made(root, name, seed, shape=(96, 96)) for seed, name in enumerate("abcde")]
    for copy, of in ((1, 0), (3, 2)):
        save(records[copy].image, (random_picture(of, (96, 96)) // 2 + 20).astype(np.uint8))  # another gain
    records[0] = replace(records[0], patient="")  # not known: of images that are named apart none is dropped
    records[3] = replace(records[3], patient="", label="malignant")
    return records


def names(store: Store) -> str:
    return "".join(record.id.removeprefix("made/") for record in store.records)


CONTRADICTING = {
    "made/c": "near-duplicates with contradicting labels",
    "made/d": "near-duplicates with contradicting labels",
}


@pytest.mark.parametrize(
    ("policy", "kept", "dropped"),
    [
        (None, "abe", CONTRADICTING),
        (Policy("group"), "abe", CONTRADICTING),
        (Policy("keep-first"), "ae", CONTRADICTING | {"made/b": "near-duplicate of an image that is kept"}),
        (Policy("drop-all"), "e", CONTRADICTING | dict.fromkeys(["made/a", "made/b"], "near-duplicates")),
        (
            Policy(curated=CuratedList("list", ("b", "d", "e"))),
            "bde",
            dict.fromkeys(["made/a", "made/c"], "not on the curated list"),
        ),
    ],
)
def test_what_the_policy_leaves(
    policy: Policy | None, kept: str, dropped: dict[str, str], repeated: list[Record], tmp_path: Path
) -> None:
    store = prepare_store(repeated, tmp_path / "stores", SIZE, policy=policy)
    assert names(store) == kept
    assert {one.id: one.reason for one in store.dropped} == dropped
    assert store.policy == (policy or Policy()).content
    assert Store.open(store.folder).dropped == store.dropped
    assert len(store.images) == len(store.label_maps) == len(store.original_sizes) == len(kept)


def test_rows_are_those_of_their_records_whatever_is_dropped_before_them(
    repeated: list[Record], tmp_path: Path
) -> None:
    alone = {names(store): store for store in (prepare_store([one], tmp_path / "alone", SIZE) for one in repeated)}
    store = prepare_store(repeated, tmp_path / "stores", SIZE, policy=Policy("keep-first"))
    for row, name in enumerate(names(store)):
        assert np.array_equal(store.images[row], alone[name].images[0])
        assert np.array_equal(store.label_maps[row], alone[name].label_maps[0])
        assert np.load(store.folder / "images.npy").shape == (2, *SIZE)


def test_patients_are_one_also_where_an_image_of_theirs_is_dropped(repeated: list[Record], tmp_path: Path) -> None:
    repeated[4] = replace(repeated[4], patient="patient-b")
    store = prepare_store(repeated, tmp_path / "stores", SIZE, policy=Policy("keep-first"))
    assert [record.patient for record in store.records] == ["patient-b", "patient-b"]


def test_corrections_reach_the_store(repeated: list[Record], tmp_path: Path) -> None:
    corrections = Corrections("file", {"d": "of the other class"}, {}, {"patient-c": Rename("patient-e", "one woman")})
    store = prepare_store(repeated, tmp_path / "stores", SIZE, policy=Policy(corrections=corrections))
    assert names(store) == "abce"
    assert store.dropped == (Dropped("made/d", "excluded by corrections", "of the other class"),)
    assert [record.patient for record in store.records[2:]] == ["patient-e", "patient-e"]


def test_an_image_that_corrections_exclude_may_be_damaged(records: list[Record], tmp_path: Path) -> None:
    records[0].image.write_bytes(b"no image")
    excluded = Policy(corrections=Corrections("file", {"b": "cannot be decoded"}))
    assert names(prepare_store(records, tmp_path / "stores", SIZE, policy=excluded)) == "acd"


def test_another_policy_is_another_store_and_another_place_of_its_files_is_not(
    repeated: list[Record], tmp_path: Path
) -> None:
    policies = [
        Policy(),
        Policy("keep-first"),
        Policy(curated=CuratedList("here", tuple("abcde"))),
        Policy(curated=CuratedList("there", tuple("abcde"))),
        Policy(corrections=Corrections("here", {"a": "one reason"})),
        Policy(corrections=Corrections("here", {"a": "another reason"})),
    ]
    keys = [prepare_store(repeated, tmp_path / "stores", SIZE, policy=policy).folder.name for policy in policies]
    assert keys[2] == keys[3]
    assert len(set(keys)) == 5


def test_a_change_among_what_is_dropped_is_another_store(repeated: list[Record], tmp_path: Path) -> None:
    policy = Policy(curated=CuratedList("list", ("a", "e")))
    given = (repeated, [repeated[0], *repeated[2:]])
    stores = [prepare_store(some, tmp_path / "stores", SIZE, policy=policy) for some in given]
    assert [len(store.dropped) for store in stores] == [3, 2]


def test_a_policy_that_leaves_nothing_is_refused_and_leaves_nothing(repeated: list[Record], tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"^made: its curation leaves no image \(near-duplicates.*\); change the policy"
    ):
        prepare_store(repeated[:2], tmp_path / "stores", SIZE, policy=Policy("drop-all"))
    assert folders(tmp_path / "stores") == set()


def test_what_is_left_out_is_told_in_a_line_for_each_reason(
    repeated: list[Record], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(2):  # also when the store is there already
        caplog.clear()
        prepare_store(repeated, tmp_path / "stores", SIZE, policy=Policy("keep-first"))
        assert caplog.messages == [
            "made: 1 of 5 images are left out: near-duplicate of an image that is kept",
            "made: 2 of 5 images are left out: near-duplicates with contradicting labels",
        ]


def test_frames_of_a_patient_are_kept_as_they_are(tmp_path: Path) -> None:
    """A lesion that leaves the picture from one frame to the next is no contradiction if no label says so."""
    frames = [replace(made(tmp_path, name, 0, "unknown", (96, 96)), patient="p") for name in "ab"]
    save(frames[1].masks[0], np.zeros((96, 96), np.uint8))
    store = prepare_store(frames, tmp_path / "stores", SIZE)
    assert [record.label for record in store.records] == ["unknown", "normal"]
    assert store.dropped == ()


# One process at a time


def test_a_folder_without_an_index_is_replaced(records: list[Record], tmp_path: Path) -> None:
    folder = prepare_store(records, tmp_path / "stores", SIZE).folder
    (folder / "index.json").unlink()
    (folder / "images.npy").write_bytes(b"half of it")
    store = prepare_store(records, tmp_path / "stores", SIZE)
    assert store.folder == folder
    assert len(store.images) == 4


def test_a_second_one_waits_and_opens_what_the_first_has_finished(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, decoded = threading.Event(), threading.Event(), list[Path]()
    decode = preparation.read_image

    def slowly(path: Path, frame: int | None, full_scale: float | None) -> np.ndarray:
        decoded.append(path)
        begun.set()
        assert go_on.wait(10)
        return decode(path, frame, full_scale)

    monkeypatch.setattr(preparation, "read_image", slowly)
    found: list[Store] = []
    both = [
        threading.Thread(target=lambda: found.append(prepare_store(records, tmp_path / "stores", SIZE)))
        for _ in range(2)
    ]
    both[0].start()
    assert begun.wait(10)
    both[1].start()
    both[1].join(0.2)
    assert found == []
    go_on.set()
    for thread in both:
        thread.join(10)
    assert len(found) == 2
    assert found[0].folder == found[1].folder
    assert sorted(decoded) == sorted(record.image for record in records)  # each once


def test_several_processes_prepare_one_store(tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    for number in range(30):
        made(root, f"n{number}", number, shape=(80, 80))
    program = (
        "import sys; from pathlib import Path\n"
        "from episodes.datasets import read_dataset; from episodes.storage.preparation import prepare_store\n"
        "root, stores = map(Path, sys.argv[1:])\n"
        "print(prepare_store(read_dataset('folder', root), stores, (64, 64)).images[:].sum())"
    )
    command = [sys.executable, "-c", program, str(root), str(tmp_path / "stores")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]  # noqa: S603
    sums = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(set(sums)) == 1
    assert len(folders(tmp_path / "stores")) == 1
