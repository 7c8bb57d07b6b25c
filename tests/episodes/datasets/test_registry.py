from pathlib import Path

import pytest

from episodes.datasets import READERS, busi, find_reader, read_dataset
from episodes.errors import DatasetError
from episodes.records import Record
from tests.episodes.datasets.made_trees import save_image, save_mask


def read_mine(root: Path) -> list[Record]:
    """A reader as a user writes one."""
    return [Record("mine", path, (), "normal", path.stem) for path in sorted(root.glob("*.png"), reverse=True)]


def read_twice(root: Path) -> list[Record]:
    return read_mine(root) * 2


def read_locked(root: Path) -> list[Record]:
    raise PermissionError(13, "Permission denied", str(root / "INFO.csv"))


not_a_function = 3
MINE = f"{__name__}:read_mine"


def test_every_registered_reader_is_there() -> None:
    assert list(READERS) == ["busi", "bus_uclm", "bus_bra", "udiat", "breast_usg", "folder", "phantom"]
    for name in READERS:
        assert callable(find_reader(name))
    assert find_reader("busi") is busi.read


def test_a_reader_of_ones_own(tmp_path: Path) -> None:
    for name in "ab":
        save_image(tmp_path / f"{name}.png")
    assert [record.id for record in read_dataset(MINE, tmp_path)] == ["mine/a", "mine/b"]  # sorted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bussi", "there is no dataset reader 'bussi': did you mean busi"),
        ("bus-bra", "did you mean bus_bra"),
        ("zzz", "choose from busi, bus_uclm, bus_bra, udiat, breast_usg, folder, phantom"),
        ("busi:", "there is no dataset reader 'busi:': did you mean busi"),
        ("no_such_module:read", "'no_such_module:read' cannot be imported: No module named 'no_such_module'"),
        (f"{__name__}:absent", f"the module '{__name__}' has no function 'absent'"),
        (f"{__name__}:not_a_function", "is not a function but a int"),
    ],
)
def test_unknown_readers(name: str, message: str) -> None:
    with pytest.raises(DatasetError) as error:
        find_reader(name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_roots(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent does not exist: give the folder that holds the dataset busi"):
        read_dataset("busi", tmp_path / "absent")
    file = save_image(tmp_path / "file.png")
    with pytest.raises(DatasetError, match=r"file\.png is a file, not a folder: give the folder"):
        read_dataset("busi", file)
    with pytest.raises(DatasetError, match=r"cannot be read: .*Permission denied: .*INFO\.csv.*; check that you"):
        read_dataset(f"{__name__}:read_locked", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: the reader .*read_mine found no image there"):
        read_dataset(MINE, tmp_path / "empty")


def test_equal_ids_are_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"the name 'mine/a' is already that of"):
        read_dataset(f"{__name__}:read_twice", tmp_path)


@pytest.mark.parametrize("given", ["outer", "inner"])
def test_a_root_one_level_off(tmp_path: Path, given: str) -> None:
    dataset = tmp_path / "archive" / "Dataset"
    for label in ("benign", "malignant", "normal"):
        save_image(dataset / label / f"{label} (1).png")
        save_mask(dataset / label / f"{label} (1)_mask.png")
    root = dataset.parent if given == "outer" else dataset / "benign"
    with pytest.raises(DatasetError) as error:
        read_dataset("busi", root)
    assert str(error.value) == (
        f"{root} lacks the folders benign/, malignant/, normal/; {dataset} holds them: give that folder"
    )
