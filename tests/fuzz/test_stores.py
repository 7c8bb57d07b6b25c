"""Prepared stores, and the files that say what of a dataset is used."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.curation.policy import CuratedList, Policy, curate
from episodes.datasets import read_dataset
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from episodes.records import Record
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Store, tree_crc
from fewshot.stores import read_corrections
from tests.fuzz.mutations import damaged, damaged_blocks, damaged_tree
from tests.fuzz.watched import fuzzing, require_read_or_refused

FILES = ("index.json", "images.npy", "label_maps.npy")
CORRECTIONS = {
    "version": 1,
    "dataset": "folder",
    "exclude": {"linear-0000": "blurred"},
    "relabel": {"linear-0001": {"label": "benign", "reason": "histology"}},
    "rename_patients": {"p1": {"to": "p2", "reason": "one patient"}},
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    root = tmp_path_factory.mktemp("mine")
    write_folder(generate(PhantomSpec("linear", 6, size=64)), root)
    return read_dataset("folder", root)


@pytest.fixture(scope="module")
def store(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare_store(records, tmp_path_factory.mktemp("stores"), (32, 32))


Content = tuple[object, ...]


def content_of(folder: Path) -> Content:
    """All that is read of a store."""
    store = Store.open(folder)
    pixels = [pixels[row].tobytes() for pixels in (store.images, store.label_maps) for row in range(len(pixels))]
    return store.records, store.original_sizes, store.size, store.policy, store.dropped, pixels


def require_whole_or_refused(store: Store, changed: str, damage: bytes, allowed: Content | None) -> None:
    """A damaged store gives the numbers that it gave before, or none; `allowed` None allows whatever is well-formed."""
    path, found = store.folder / changed, list[Content]()
    whole = path.read_bytes()
    path.write_bytes(damage)
    try:
        if require_read_or_refused(lambda: found.append(content_of(store.folder)), path, store.folder):
            assert allowed is None or found == [allowed]
    finally:
        path.write_bytes(whole)


@fuzzing(150)
@given(st.sampled_from(FILES), st.data())
def test_damaged_bytes(store: Store, changed: str, data: st.DataObject) -> None:
    """Anywhere in the file: bits flipped, the end lost, blocks zeroed, swapped or lost."""
    before, content = content_of(store.folder), (store.folder / changed).read_bytes()
    require_whole_or_refused(store, changed, data.draw(damaged(content) | damaged_blocks(content)), before)


@pytest.mark.parametrize("changed", ["images.npy", "label_maps.npy"])
def test_every_single_byte_counts(store: Store, changed: str) -> None:
    """Of those before the pixels each, of the pixels a sample of all rows."""
    path, before = store.folder / changed, content_of(store.folder)
    content = path.read_bytes()
    for place in (*range(128), *range(128, len(content), 61)):
        other = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        require_whole_or_refused(store, changed, other, before)


@fuzzing(100)
@given(st.data())
def test_a_wrong_index(store: Store, data: st.DataObject) -> None:
    """One that nothing has damaged: its checksum is right."""
    tree = json.loads((store.folder / "index.json").read_text())
    del tree["crc32"]
    other = data.draw(damaged_tree(tree))
    signed = {**other, "crc32": tree_crc(other)} if isinstance(other, dict) else other
    require_whole_or_refused(store, "index.json", json.dumps(signed).encode(), None)


@fuzzing(75)
@given(damaged_tree(CORRECTIONS))
def test_wrong_corrections(records: list[Record], store: Store, tree: object) -> None:
    path = store.folder.parent / "corrections.yaml"
    path.write_text(json.dumps(tree))  # which is YAML as well

    def use_them() -> None:
        curate(records, Policy(corrections=read_corrections(path, ("folder",))))

    require_read_or_refused(use_them, path)


@fuzzing(50)
@given(st.data())
def test_a_damaged_curated_list(records: list[Record], store: Store, data: st.DataObject) -> None:
    path = store.folder.parent / "curated.txt"
    names = "".join(f"{record.id}\n" for record in records)
    path.write_bytes(data.draw(damaged(f"# the good ones\n{names}".encode())))
    require_read_or_refused(lambda: curate(records, Policy(curated=CuratedList.read(path))), path)
