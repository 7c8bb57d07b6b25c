"""Episodes, support draws and splits on disk: JSON lines and JSON whose bytes or values are wrong."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.records import Record
from episodes.sampling.draws import support_draws
from episodes.sampling.manifest import DRAWS, EPISODES
from episodes.sampling.sampler import EpisodeSampler
from episodes.sampling.splits import read_split, split_records, write_split
from fewshot.report.pairing import require_same_manifests
from tests.episodes.made_records import made_dataset
from tests.fuzz.mutations import damaged, damaged_tree
from tests.fuzz.watched import fuzzing, require_read_or_refused

RECORDS = made_dataset("busi", {"benign": 9, "malignant": 8, "normal": 7})
READERS: dict[str, Callable[[Path, Sequence[Record]], object]] = {
    "episodes": EPISODES.read,
    "draws": DRAWS.read,
    "split": read_split,
}
kinds = st.sampled_from(sorted(READERS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What each kind of file is like when it is whole."""
    folder = tmp_path_factory.mktemp("whole")
    sampler = EpisodeSampler(RECORDS, n_shot=2)
    EPISODES.write(folder / "episodes", sampler.specs(0, 4), RECORDS, **sampler.parameters)
    DRAWS.write(folder / "draws", support_draws(RECORDS, n_draws=2, depth=3), RECORDS)
    write_split(folder / "split", split_records(RECORDS))
    return {kind: (folder / kind).read_bytes() for kind in READERS}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests") / "draws-busi.jsonl"


def written_again(lines: Sequence[Any]) -> str:
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def test_the_files_are_read_as_they_are(whole: dict[str, bytes], place: Path) -> None:
    for kind, content in whole.items():
        place.write_bytes(content)
        READERS[kind](place, RECORDS)


@fuzzing(150)
@given(kinds, st.data())
def test_damaged_bytes(whole: dict[str, bytes], place: Path, kind: str, data: st.DataObject) -> None:
    place.write_bytes(data.draw(damaged(whole[kind])))
    require_read_or_refused(lambda: READERS[kind](place, RECORDS), place)


@fuzzing(200)
@given(kinds, st.data())
def test_wrong_values(whole: dict[str, bytes], place: Path, kind: str, data: st.DataObject) -> None:
    texts = [whole[kind].decode()] if kind == "split" else whole[kind].decode().splitlines()
    lines = data.draw(damaged_tree([json.loads(text) for text in texts]))
    place.write_text(written_again(lines if isinstance(lines, list) else [lines]))
    require_read_or_refused(lambda: READERS[kind](place, RECORDS), place)


@fuzzing(75)
@given(st.data())
def test_damaged_manifests_of_two_runs(whole: dict[str, bytes], place: Path, data: st.DataObject) -> None:
    runs = [place.parent / name for name in ("first", "second")]
    lines = [json.loads(text) for text in whole["draws"].decode().splitlines()]
    for run in runs:
        run.mkdir(exist_ok=True)
        damage = data.draw(st.one_of(damaged(whole["draws"]), damaged_tree(lines), st.just(whole["draws"])))
        if not isinstance(damage, bytes):
            damage = written_again(damage if isinstance(damage, list) else [damage]).encode()
        (run / place.name).write_bytes(damage)
    require_read_or_refused(lambda: require_same_manifests(*runs, "busi"), *runs)
