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
from episodes.storage.store import Store
from fewshot.stores import read_corrections
from tests.fuzz.mutations import damaged, damaged_tree
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


def use(folder: Path) -> None:
    store = Store.open(folder)
    for row in range(len(store.records)):
        assert store.images[row].shape == store.label_maps[row].shape == store.size


def require_sane(store: Store, changed: str, content: bytes) -> None:
    path = store.folder / changed
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        require_read_or_refused(lambda: use(store.folder), path, store.folder)
    finally:
        path.write_bytes(whole)


def test_the_store_is_read_as_it_is(store: Store) -> None:
    use(store.folder)


@fuzzing(100)
@given(st.sampled_from(FILES), st.data())
def test_damaged_bytes(store: Store, changed: str, data: st.DataObject) -> None:
    content = (store.folder / changed).read_bytes()
    require_sane(store, changed, data.draw(damaged(content[:500])) + content[500:])


@fuzzing(100)
@given(st.data())
def test_a_wrong_index(store: Store, data: st.DataObject) -> None:
    tree = json.loads((store.folder / "index.json").read_text())
    require_sane(store, "index.json", json.dumps(data.draw(damaged_tree(tree))).encode())


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
