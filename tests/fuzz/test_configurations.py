"""Configurations, split files and overrides: YAML whose bytes or values are wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.data import CorrectionsConfig, SampleConfig
from fewshot.config.parsing import Strict, load_config, parse_overrides
from fewshot.config.training import TrainConfig
from tests.fuzz.mutations import damaged, damaged_tree
from tests.fuzz.watched import fuzzing, require_read_or_refused

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS: dict[str, type[Strict]] = {
    "benchmark": BenchmarkConfig,
    "curation": CorrectionsConfig,
    "data": SampleConfig,
    "train": TrainConfig,
}
FILES = sorted(path for kind in KINDS for path in (CONFIGS / kind).rglob("*.yaml"))

# Parts of YAML that begin something: put anywhere, they change what all the rest means.
TOKENS = (
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "- ",
    ": ",
    "!!int ",
    "!!python/object/apply:os.system ",
    "---\n",
    "%YAML 9.9\n",
    "\t",
)
BRACKETS = ("[" * 500, "{a: " * 500, "- " * 500, "'", '"', "|\n", "\x00", "\ud7ff", "\u2028", "9" * 5000, "1:" * 5000)


def kind_of(path: Path) -> type[Strict]:
    return KINDS[path.relative_to(CONFIGS).parts[0]]


files = st.sampled_from(FILES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configurations") / "damaged.yaml"


def require_sane(place: Path, kind: type[Strict]) -> bool:
    return require_read_or_refused(lambda: load_config(place, kind), place)


def test_the_files_are_read_as_they_are() -> None:
    assert len(FILES) > 5
    for path in FILES:
        load_config(path, kind_of(path))


@fuzzing(150)
@given(st.data())
def test_damaged_bytes(place: Path, data: st.DataObject) -> None:
    path = data.draw(files)
    place.write_bytes(data.draw(damaged(path.read_bytes())))
    require_sane(place, kind_of(path))


@fuzzing(150)
@given(st.data())
def test_wrong_values(place: Path, data: st.DataObject) -> None:
    path = data.draw(files)
    tree = data.draw(damaged_tree(yaml.safe_load(path.read_text())))
    place.write_text(yaml.safe_dump(tree))
    require_sane(place, kind_of(path))


@fuzzing(100)
@given(st.data())
def test_marks_of_yaml_in_wrong_places(place: Path, data: st.DataObject) -> None:
    path = data.draw(files)
    text = path.read_text()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(TOKENS + BRACKETS)) + text[at:]
    place.write_text(text)
    require_sane(place, kind_of(path))


@fuzzing(100)
@given(st.text(st.sampled_from("ab.=[]{}:,&*!- \n1\x00é"), max_size=30))
def test_overrides(text: str) -> None:
    tree: dict[str, Any] = {"a": {"b": 1}, "ab": [1]}
    require_read_or_refused(lambda: parse_overrides([text], tree), elsewhere=("'", '"'))
