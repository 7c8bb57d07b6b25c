"""What becomes of near-duplicates: groups, patients, contradictions."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.curation.near_duplicates import settle_duplicates
from episodes.curation.policy import Curated, Duplicates
from episodes.records import LABELS, Label, Record

POLICIES: tuple[Duplicates, ...] = ("group", "keep-first", "drop-all")


def records(labels: Sequence[Label], patients: str | None = None) -> list[Record]:
    return [
        Record("made", Path(f"{number:02}.png"), (), label, patients[number] if patients else "")
        for number, label in enumerate(labels)
    ]


def kept(curated: Curated) -> list[int]:
    return [int(record.image.stem) for record in curated.records]


@pytest.mark.parametrize(("how", "left"), [("group", [0, 1, 2, 3]), ("keep-first", [0, 1]), ("drop-all", [1])])
def test_of_a_group_all_one_or_none_is_kept(how: Duplicates, left: list[int]) -> None:
    found = settle_duplicates(records(["benign"] * 4), [[0, 2, 3]], how)
    assert kept(found) == left
    assert sorted(one.id for one in found.dropped) == [f"made/{n:02}" for n in range(4) if n not in left]


@pytest.mark.parametrize("how", POLICIES)
@pytest.mark.parametrize(
    ("labels", "contradict"),
    [
        (("benign", "malignant"), True),
        (("benign", "normal"), True),
        (("unknown", "normal"), True),
        (("unknown", "benign", "malignant"), True),
        (("unknown", "benign"), False),
        (("unknown", "unknown"), False),
        (("normal", "normal"), False),
    ],
)
def test_none_is_kept_where_labels_contradict_each_other(
    labels: tuple[Label, ...], contradict: bool, how: Duplicates
) -> None:
    found = settle_duplicates(records([*labels, "benign"]), [list(range(len(labels)))], how)
    reasons = {one.reason for one in found.dropped}
    assert ("near-duplicates with contradicting labels" in reasons) == contradict
    if contradict:
        assert kept(found) == [len(labels)]
        assert len(reasons) == 1


def test_dropped_images_say_what_they_resemble() -> None:
    copies = records(["benign", "benign", "malignant", "normal"])
    assert [one.detail for one in settle_duplicates(copies, [[0, 1], [2, 3]], "drop-all").dropped] == [
        "shows the same as made/01",
        "shows the same as made/00",
        "made/02 malignant, made/03 normal",
        "made/02 malignant, made/03 normal",
    ]


def test_the_first_is_so_by_id_whatever_the_order() -> None:
    found = settle_duplicates(records(["benign"] * 3)[::-1], [[0, 1, 2]], "keep-first")
    assert kept(found) == [0]


def test_frames_of_one_patient_are_near_duplicates_as_well() -> None:
    frames = records(["benign"] * 3, "ppq")
    assert [kept(settle_duplicates(frames, [[0, 1]], how)) for how in POLICIES] == [[0, 1, 2], [0, 2], [2]]


@given(
    labels=st.lists(st.sampled_from(LABELS), min_size=1, max_size=12),
    patients=st.lists(st.sampled_from("pqrst"), min_size=12, max_size=12),
    shuffled=st.permutations(range(12)),
    cuts=st.lists(st.integers(1, 4), max_size=6),
    how=st.sampled_from(POLICIES),
)
def test_whatever_the_groups(
    labels: list[Label], patients: list[str], shuffled: list[int], cuts: list[int], how: Duplicates
) -> None:
    """Each image is kept or dropped; of each patient of a group no more is left than may be, and not two labels."""
    made = records(labels, "".join(patients))
    places = [place for place in shuffled if place < len(made)]
    groups = []
    for size in cuts:
        group, places = sorted(places[:size]), places[size:]
        groups += [group] if len(group) > 1 else []
    found = settle_duplicates(made, groups, how)
    assert sorted(one.id for one in (*found.records, *found.dropped)) == sorted(one.id for one in made)
    left = {int(one.image.stem): one for one in found.records}
    for group in groups:
        assert len({left[place].patient for place in group if place in left}) <= 1
        for patient in {made[place].patient for place in group}:
            own = [place for place in group if made[place].patient == patient]
            members = [left[place] for place in own if place in left]
            if len(own) > 1:
                assert len({one.label for one in members} - {"unknown"}) <= 1
                assert len(members) in {"group": (0, len(own)), "keep-first": (0, 1), "drop-all": (0,)}[how]
            elif len({made[place].patient for place in group}) > 1:  # named apart: kept, whatever it looks like
                assert len(members) == 1
    for one in made:  # who shared a patient before shares one still
        same = {left[place].patient for place in left if made[place].patient == one.patient}
        assert len(same) <= 1
