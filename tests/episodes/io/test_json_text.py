"""JSON within limits: what is written comes back, and what no file of ours says is refused."""

import json
from math import inf, isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.io.yaml_json import MOST_DEPTH, JSONTextError, parse_json, read_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text("abcé", max_size=4), parts, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans())
def test_what_is_written_comes_back(value: object, escaped: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=escaped)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{'a': 1}", "Expecting property name"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "nested more deeply than 50 levels"),
        ('{"a": ' * (MOST_DEPTH + 1) + "1" + "}" * (MOST_DEPTH + 1), "nested more deeply than 50 levels"),
        (str(2**64 + 1), "a whole number has more than 64 bits"),
        ("9" * 10_000, "Exceeds the limit"),
        ("[NaN]", "nan is no number that JSON can write"),
        ("-Infinity", "-inf is no number that JSON can write"),
        ("1e999", "inf is no number that JSON can write"),
        ('["\\u0000"]', "a text has a character that no text can have"),
        ('{"\\ud800": 1}', "a text has a character that no text can have"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(JSONTextError) as caught:
        parse_json(text)
    assert str(caught.value).startswith(message)


def test_numbers_that_are_none_where_they_are_expected() -> None:
    first, second = parse_json("[NaN, -1e999]", nan=True)  # type: ignore[misc]
    assert isnan(first)
    assert second == -inf


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "é"}', encoding="utf-8")
    assert read_json(path) == {"name": "é"}
    path.write_bytes(b'"\xff"')
    with pytest.raises(JSONTextError, match=r"not UTF-8 .invalid start byte at byte 1"):
        read_json(path)
    monkeypatch.setattr("episodes.io.yaml_json.MOST_JSON_BYTES", 2**20)
    with pytest.raises(JSONTextError, match="larger than 1 MiB"):
        read_json(Path("/dev/zero"))  # which has no end
