"""What a policy decides from facts alone: corrections, a curated list, Doppler overlays."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from episodes.curation.policy import (
    Corrections,
    Curated,
    CuratedList,
    Dropped,
    Policy,
    Relabel,
    Rename,
    count_by_reason,
    curate,
)
from episodes.errors import DatasetError, ManifestError
from episodes.records import Label, Record


def record(name: str, label: Label = "benign", **facts: object) -> Record:
    facts = {"patient": name.partition("_")[0], **facts}
    return Record("made", Path(f"images/{name}.png"), (Path(f"masks/{name}.png"),), label, **facts)  # type: ignore[arg-type]


RECORDS = [record("p_1"), record("p_2", "malignant"), record("q_1"), record("r_1", "normal")]


def kept(curated: Curated) -> list[str]:
    return [one.id.removeprefix("made/") for one in curated.records]


def corrected(**corrections: object) -> Curated:
    return curate(RECORDS, Policy(corrections=Corrections("made.yaml", **corrections)))  # type: ignore[arg-type]


def test_without_a_policy_everything_is_kept_as_it_is() -> None:
    assert curate(RECORDS, Policy()) == Curated(tuple(RECORDS), ())


# Corrections


def test_excluded_images_are_dropped_with_their_reasons() -> None:
    found = corrected(exclude={"p_2": "blurred", "r_1": "a phantom"})
    assert kept(found) == ["p_1", "q_1"]
    assert found.dropped == (
        Dropped("made/p_2", "excluded by corrections", "blurred"),
        Dropped("made/r_1", "excluded by corrections", "a phantom"),
    )


@pytest.mark.parametrize("name", ["p_2", "made/p_2", "p_2.png"])
def test_images_are_named_by_id_or_file(name: str) -> None:
    assert kept(corrected(exclude={name: "blurred"})) == ["p_1", "q_1", "r_1"]


def test_another_label_is_also_that_of_a_coloured_mask() -> None:
    coloured = [replace(RECORDS[0], mask_format="colour"), *RECORDS[1:]]
    policy = Policy(corrections=Corrections("made.yaml", relabel={"p_1": Relabel("malignant", "biopsy")}))
    found = curate(coloured, policy).records
    assert [(one.label, one.mask_format) for one in found] == [
        ("malignant", "binary"),
        ("malignant", "binary"),
        ("benign", "binary"),
        ("normal", "binary"),
    ]
    assert list(found[1:]) == RECORDS[1:]


def test_patients_are_renamed_all_at_once() -> None:
    """A name that one patient loses and another gets is not renamed again."""
    found = corrected(rename_patients={"p": Rename("q", "the same woman"), "q": Rename("s", "another one")})
    assert [one.patient for one in found.records] == ["q", "q", "s", "r"]


@pytest.mark.parametrize(
    ("corrections", "message"),
    [
        ({"exclude": {"x": "?", "p_1": "?", "y": "?"}}, "images that made does not have: x, y; correct the names"),
        ({"relabel": {"x": Relabel("benign", "?")}}, "images that made does not have: x; correct the names"),
        ({"rename_patients": {"made/p": Rename("q", "?")}}, "patients that made does not have: made/p; correct"),
        ({"exclude": dict.fromkeys("vwxyz", "?")}, "images that made does not have: v, w, x and 2 more; correct"),
    ],
)
def test_what_the_dataset_does_not_have_is_named(corrections: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=f"^made.yaml: names {message}"):
        corrected(**corrections)


def test_a_file_of_several_frames_is_named_as_a_whole_or_frame_by_frame() -> None:
    clip = [replace(record("clip"), frame=frame) for frame in (1, 2)]
    for name, left in (("clip", 1), ("clip.png", 1), ("clip-0002", 2), ("made/clip-0001", 2)):
        policy = Policy(corrections=Corrections("made.yaml", {name: "blurred"}))
        assert len(curate([*clip, RECORDS[0]], policy).records) == left


# Curated lists


def read(tmp_path: Path, text: str) -> CuratedList:
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    return CuratedList.read(path)


def test_only_what_is_listed_is_kept(tmp_path: Path) -> None:
    listed = read(tmp_path, "\ufeff# good ones\n\n  q_1.png\t\r\nmade/p_1\np_1\n")
    found = curate(RECORDS, Policy(curated=listed))
    assert kept(found) == ["p_1", "q_1"]
    assert count_by_reason(found.dropped) == {"not on the curated list": 2}


def test_names_that_a_list_invents_are_an_error(tmp_path: Path) -> None:
    listed = read(tmp_path, "p_1\np_9\nq_1  # with a remark\n")
    message = r"list.txt: names images that made does not have: p_9, q_1  # with a remark; correct the names"
    with pytest.raises(DatasetError, match=message):
        curate(RECORDS, Policy(curated=listed))


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n"])
def test_a_list_of_nothing_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"list\.txt: names no image; write one id or file name a line"):
        read(tmp_path, text)


def test_a_list_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.txt: there is no such file; check the path of the curated list"):
        CuratedList.read(tmp_path / "none.txt")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ManifestError, match=r"picture\.png: cannot be read as a curated list"):
        CuratedList.read(tmp_path / "picture.png")


# Doppler


def flagged(*flags: str) -> list[Record]:
    return [record(f"p_{number}", extra={"Doppler": flag}) for number, flag in enumerate(flags)]


def test_doppler_images_are_dropped_where_the_dataset_names_them() -> None:
    found = curate(flagged("Yes", "No", "y", "", "TRUE", "0"), Policy(doppler="drop"))
    assert kept(found) == ["p_1", "p_3", "p_5"]
    assert set(found.dropped) == {Dropped(f"made/p_{number}", "Doppler overlay") for number in (0, 2, 4)}
    assert len(curate(flagged("Yes", "No"), Policy(doppler="keep")).records) == 2


def test_a_dataset_that_does_not_say_which_are_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"^made: does not state which images have a Doppler overlay"):
        curate(RECORDS, Policy(doppler="drop"))
    with pytest.raises(DatasetError, match=r"^made/p_1: Doppler is 'maybe'; write Yes or No$"):
        curate(flagged("No", "maybe"), Policy(doppler="drop"))


# One after the other


def test_corrections_come_first_then_the_list_then_doppler() -> None:
    """Each drops from what the one before has left; a list may name what corrections exclude."""
    records = flagged("Yes", "No", "Yes", "No")
    policy = Policy(
        doppler="drop",
        curated=CuratedList("list", ("p_0", "p_1", "p_3")),
        corrections=Corrections("made.yaml", {"p_0": "blurred"}),
    )
    found = curate(records, policy)
    assert kept(found) == ["p_1", "p_3"]
    assert [(one.id, one.reason) for one in found.dropped] == [
        ("made/p_0", "excluded by corrections"),
        ("made/p_2", "not on the curated list"),
    ]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (lambda: Policy(doppler="drop"), "Doppler overlay"),
        (lambda: Policy(corrections=Corrections("f", {"p_0": "x", "p_1": "x"})), "excluded by corrections: x"),
        (
            lambda: Policy(
                doppler="drop", curated=CuratedList("l", ("p_0",)), corrections=Corrections("f", {"p_0": "x"})
            ),
            "not on the curated list",
        ),
    ],
)
def test_a_policy_that_leaves_nothing_is_an_error(policy: Callable[[], Policy], reason: str) -> None:
    with pytest.raises(DatasetError, match=rf"^made: its curation leaves no image \({reason}\); change the policy"):
        curate(flagged("Yes", "Yes"), policy())


def test_every_image_is_either_kept_or_dropped_once() -> None:
    policy = Policy(curated=CuratedList("l", ("p_1", "r_1")), corrections=Corrections("f", {"r_1": "x", "q_1": "x"}))
    found = curate(RECORDS, policy)
    assert sorted([one.id for one in (*found.records, *found.dropped)]) == sorted(one.id for one in RECORDS)
