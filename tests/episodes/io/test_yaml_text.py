"""YAML within limits: what a user writes is read, and what would hide a mistake or exhaust the machine is refused."""

import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from episodes.io.yaml_json import MOST_DEPTH, YAMLTextError, parse_yaml, read_yaml
from episodes.io.yaml_json import MOST_YAML_BYTES as MOST_BYTES

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text("abc: -é#", max_size=9),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text("abcé", max_size=4), values, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_what_yaml_writes_is_read_as_yaml_reads_it(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text) == yaml.safe_load(text)


def test_references_and_merged_mappings_are_followed() -> None:
    text = """
base: &base {steps: 5, rate: 0.1}
longer: {<<: *base, steps: 50}
longest: &longest {<<: *base, rate: 1}
again: {<<: *longest, steps: 500}
"""
    found = parse_yaml(text)
    assert isinstance(found, dict)
    assert found["longer"] == {"steps": 50, "rate": 0.1}
    assert found["again"] == {"steps": 500, "rate": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands here and in line 1; remove one of them"),
        ("a:\n  b: {c: 1, d: 2, c: 1}", "line 2: the key 'c' stands here and in line 2; remove one of them"),
        ("- {1: a}\n- {1: a, 1: b}", "line 2: the key '1' stands here and in line 2; remove one of them"),
        ("a: 1\nb: !!int '2'", "line 2: the tag tag:yaml.org,2002:int; write a plain value"),
        ("!!python/object/apply:os.system [ls]", "line 1: the tag tag:yaml.org,2002:python/object/apply:os.system; wr"),
        ("a: &a [*a]", "*a refers to what it stands in"),
        ("a: *b", "found undefined alias, line 1, column 4"),
        ("a: 2026-02-30", "day is out of range for month"),
        ("a: 123456789012345678901", "line 1: a whole number has more than 64 bits"),
        ("a: 0x" + "f" * 500, "line 1: a whole number has more than 64 bits"),
        ("a: 1" + ":1" * 40, "line 1: a whole number has more than 64 bits"),
        ("a: " + "x" * 10_001, "a value of 10001 characters; expected at most 10000"),
        ('a: "\\0"', "a text has a character that no text can have"),
        ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "nested more deeply than 50 levels"),
        ("- " * 100_000, "nested more deeply than 50 levels"),
        ("a: 1\n" + " " * MOST_BYTES, "larger than 1 MiB"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(YAMLTextError) as caught:
        parse_yaml(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_as_deep_as_is_allowed() -> None:
    value = parse_yaml("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    for _ in range(MOST_DEPTH - 1):
        assert isinstance(value, list)
        (value,) = value
    assert value == []


def test_a_billion_laughs_are_counted_not_made() -> None:
    """Each line has ten references to the line before: 500 bytes stand for 10,000,000,000 values."""
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    tracemalloc.start()
    try:
        with pytest.raises(YAMLTextError, match="more than 100000 values, with what is referred to counted each time"):
            parse_yaml("\n".join(lines))
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffname: \u00e9\n", encoding="utf-8")
    assert read_yaml(path) == {"name": "é"}
    path.write_bytes(b"name: \xff")
    with pytest.raises(YAMLTextError, match=r"not UTF-8 .invalid start byte at byte 6"):
        read_yaml(path)
    with pytest.raises(YAMLTextError, match="larger than 1 MiB"):
        read_yaml(Path("/dev/zero"))  # which has no end
    with pytest.raises(OSError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
