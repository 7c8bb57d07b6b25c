"""What a dataset states of its images."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.curation.check_content import Content, compare_stated_sizes, find_flags
from episodes.curation.findings import Finding
from episodes.records import Record


def content(size: tuple[int, int] | None, stem: str = "a") -> Content:
    return Content(Record("d", Path(f"{stem}.png"), (), "normal", "p"), (), size)


def kinds(size: tuple[int, int] | None, stated: tuple[int, int]) -> list[str]:
    return [finding.kind for finding in compare_stated_sizes([content(size)], {"a": stated})]


def test_flags() -> None:
    said = {"Doppler": "Yes", "Marks": "No", "Combined": "yes", "Device": "Yes"}
    record = Record("d", Path("a.png"), (), "normal", "p", extra=said)
    assert list(find_flags([record])) == [
        Finding("Doppler overlay", ("d/a",), "Doppler: Yes"),
        Finding("combined image", ("d/a",), "Combined: yes"),
    ]


def test_sizes_as_they_are_stated() -> None:
    assert kinds((606, 856), (606, 856)) == []
    assert kinds(None, (606, 856)) == []
    assert list(compare_stated_sizes([content((5, 5), "b")], {"a": (6, 6)})) == []


# BUS-BRA states 540 x 354 of an image of 540 x 352, which is 256 x 167 in a copy of at most 256 pixels.
@pytest.mark.parametrize(("size", "stated"), [((352, 540), (354, 540)), ((167, 256), (354, 540)), ((60, 80), (80, 60))])
def test_sizes_of_another_shape(size: tuple[int, int], stated: tuple[int, int]) -> None:
    assert kinds(size, stated) == ["size against table"]


@given(height=st.integers(100, 1200), width=st.integers(100, 1200), longest=st.integers(64, 2000))
def test_copies_at_another_scale(height: int, width: int, longest: int) -> None:
    scale = longest / max(height, width)
    copy = (round(height * scale), round(width * scale))
    assert kinds(copy, (height, width)) == (["scaled copy"] if scale != 1 else [])
