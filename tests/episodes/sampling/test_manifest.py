import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.errors import ManifestError, StorageError, UserError
from episodes.records import Record, records_hash
from episodes.sampling.draws import SupportDraw, support_draws
from episodes.sampling.manifest import DRAWS, EPISODES
from episodes.sampling.sampler import EpisodeSampler, EpisodeSpec
from tests.episodes.made_records import made_dataset, made_record

RECORDS = made_dataset("a", {"benign": 6, "malignant": 6}, 2)
SAMPLER = EpisodeSampler(RECORDS, n_shot=2, n_query=2, classes=(("benign", "malignant"), ("lesion",)), seed=3)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "new folder" / "episodes.jsonl"
    EPISODES.write(path, SAMPLER.specs(0, 10), RECORDS, **SAMPLER.parameters)
    return path


def edit(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("".join(lines))


def fails(path: Path, message: str, records: Sequence[Record] = RECORDS) -> None:
    with pytest.raises(ManifestError, match=f"^{re.escape(f'{path}{message}')}$"):
        EPISODES.read(path, records)


def test_episodes_come_back_whatever_the_order_of_records(manifest: Path) -> None:
    specs = EPISODES.read(manifest, RECORDS[::-1])
    assert specs == list(SAMPLER.specs(0, 10))
    assert hash(specs[0]) == hash(SAMPLER[0])  # tuples, not lists


def test_draws_come_back(tmp_path: Path) -> None:
    draws = support_draws(RECORDS, depth=5, seed=8)
    DRAWS.write(tmp_path / "draws.jsonl", draws, RECORDS, seed=8)
    assert DRAWS.read(tmp_path / "draws.jsonl", RECORDS) == draws
    header = json.loads((tmp_path / "draws.jsonl").read_text().splitlines()[0])
    assert header["format"] == "fewshot-draws"
    assert (header["n_draws"], header["seed"]) == (5, 8)


def test_the_file_is_json_lines_with_a_header(manifest: Path) -> None:
    header, *rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert header == {
        "format": "fewshot-episodes",
        "version": 1,
        "records": records_hash(RECORDS),
        "n_episodes": 10,
        "n_shot": 2,
        "n_query": 2,
        "classes": [["benign", "malignant"], ["lesion"]],
        "seed": 3,
        "pairing": "within",
    }
    assert rows[4] == {
        "index": 4,
        "classes": list(SAMPLER[4].classes),
        "support": [list(way) for way in SAMPLER[4].support],
        "query": list(SAMPLER[4].query),
    }


def test_the_header_tells_how_to_sample_the_same_again(manifest: Path) -> None:
    header = json.loads(manifest.read_text().splitlines()[0])
    again = EpisodeSampler(RECORDS, **{name: header[name] for name in SAMPLER.parameters})
    assert list(again.specs(0, 10)) == EPISODES.read(manifest, RECORDS)


@settings(max_examples=50, deadline=None)
@given(names=st.sets(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0")), min_size=2))
def test_any_file_name_survives(names: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    records = [made_record("a", f"x{name}x", "benign", name) for name in sorted(names)]
    path = tmp_path_factory.mktemp("names") / "draws.jsonl"
    draws = [SupportDraw(0, tuple(record.id for record in records), ())]
    DRAWS.write(path, draws, records)
    assert DRAWS.read(path, records) == draws


def test_writing_twice_needs_leave(manifest: Path) -> None:
    before = manifest.read_bytes()
    with pytest.raises(UserError, match=f"^{re.escape(str(manifest))}: exists already"):
        EPISODES.write(manifest, [], RECORDS)
    assert manifest.read_bytes() == before
    EPISODES.write(manifest, SAMPLER.specs(5, 7), RECORDS, overwrite=True)
    assert [spec.index for spec in EPISODES.read(manifest, RECORDS)] == [5, 6]


def test_a_failed_write_leaves_what_was_there(manifest: Path) -> None:
    before = manifest.read_bytes()
    bad = EpisodeSpec(0, ("lesion",), (("\ud800",),), ())  # half a character has no UTF-8
    with pytest.raises(ValueError, match="surrogate"):
        EPISODES.write(manifest, [SAMPLER[0], bad], RECORDS, overwrite=True)
    assert manifest.read_bytes() == before
    assert list(manifest.parent.iterdir()) == [manifest]


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "episodes.jsonl"
    with pytest.raises(StorageError, match=f"^{re.escape(str(path))}: cannot be written"):
        EPISODES.write(path, [], RECORDS)


def test_no_episodes_is_a_manifest(tmp_path: Path) -> None:
    EPISODES.write(tmp_path / "none.jsonl", [], RECORDS)
    assert EPISODES.read(tmp_path / "none.jsonl", RECORDS) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    fails(tmp_path / "no.jsonl", ": there is no such file; check the path of the manifest of episodes")


@pytest.mark.parametrize("content", ["", "hello\n", "[1, 2]\n", "{}\n", '{"format": "fewshot-draws"}\n'])
def test_another_file_is_not_a_manifest(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other"
    path.write_text(content)
    fails(path, ': not a manifest of episodes: its first line has no "format": "fewshot-episodes"')


def test_a_binary_file_is_not_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ManifestError, match="cannot be read as a manifest"):
        EPISODES.read(path, RECORDS)


def test_a_later_version_is_not_guessed_at(manifest: Path) -> None:
    edit(manifest, 1, '"version": 1', '"version": 2')
    fails(manifest, ": its version is 2 and this program reads version 1; write it again, or update the program")


def test_a_truncated_file_is_noticed_at_any_line(manifest: Path) -> None:
    lines = manifest.read_text().splitlines(keepends=True)
    for kept in range(1, 11):
        manifest.write_text("".join(lines[:kept]))
        fails(manifest, f": holds {kept - 1} episodes, its first line promises 10; write it again")
    manifest.write_text("".join(lines)[:-20])
    fails(manifest, ", line 11: not one of the episodes; the file is damaged, write it again")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"index"', '"index"'),
        ('"index":2', '"index":"2"'),
        ('"query"', '"queries"'),
        ('"classes":["', '"classes":["in'),
        ('"support":[[', '"support":[["a/benign0-0"],['),
        ('"query":[', '"query":[7,'),
    ],
)
def test_a_damaged_line_is_numbered(manifest: Path, old: str, new: str) -> None:
    edit(manifest, 4, old, new)
    fails(manifest, ", line 4: not one of the episodes; the file is damaged, write it again")


def test_missing_records_are_named(manifest: Path) -> None:
    without = [record for record in RECORDS if record.patient not in ("benign0", "benign1", "malignant2", "benign3")]
    named = {name for spec in SAMPLER.specs(0, 10) for way in (*spec.support, spec.query) for name in way}
    missing = sorted(named - {record.id for record in without})
    assert len(missing) > 3
    fails(
        manifest,
        f": not all of its records are among the {len(without)} at hand, which lack {', '.join(missing[:3])} "
        f"and {len(missing) - 3} more; read it with the datasets it was written for",
        without,
    )


@pytest.mark.parametrize("change", ["label", "patient", "added"])
def test_changed_records_are_noticed(manifest: Path, change: str) -> None:
    label, patient = RECORDS[0].label, RECORDS[0].patient
    changed = {
        "label": [made_record("a", "benign0-0", "unknown", patient), *RECORDS[1:]],
        "patient": [made_record("a", "benign0-0", label, "another"), *RECORDS[1:]],
        "added": [*RECORDS, made_record("a", "new", label, patient)],
    }[change]
    fails(
        manifest,
        ": was written for other records: since then some were added or removed, or changed their label or "
        "patient; write it again, or read it with the datasets it was written for",
        changed,
    )
