"""Features on disk: the same bits as in memory, no trace of them in the folder, and readable errors of full disks."""

import errno
import gc
import mmap
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import StorageError
from fewshot.features import Features, MappedTensor, SpilledFeatures, n_bytes, room_for
from tests.fewshot.scarce_memory import torch_error

SIZE = (32, 48)


def made(count: int, dtype: torch.dtype = torch.float32) -> Features:
    """Two levels of features of so many images."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((count, 3, 8, 12), (count, 7, 4, 6))
    return Features(tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes), SIZE)


def on_disk(features: Features, folder: Path, sizes: tuple[int, ...] = (4, 3)) -> SpilledFeatures:
    """The same on disk, put there in batches of these sizes."""
    found = SpilledFeatures(features.take(range(sizes[0])), sum(sizes), folder)
    start = 0
    for size in sizes:
        found.put(start, features.take(range(start, start + size)))
        start += size
    return found


def assert_same_bits(first: Features, second: Features) -> None:
    assert first.size == second.size
    for left, right in zip(first.levels, second.levels, strict=True):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("rows", [[0], [6], [2, 3, 4], [5, 0, 3], [1, 1]], ids=str)
def test_what_is_taken_has_the_bits_of_what_was_put(rows: list[int], dtype: torch.dtype, tmp_path: Path) -> None:
    features = made(7, dtype)
    assert_same_bits(on_disk(features, tmp_path).take(rows), features.take(rows))


def test_rows_that_follow_each_other_are_taken_without_a_copy_and_others_with_one(tmp_path: Path) -> None:
    features = made(7)
    kept = on_disk(features, tmp_path)
    assert kept.take([2, 3]).deepest.data_ptr() == kept.take([2]).deepest.data_ptr()
    kept.take([2, 4]).deepest.zero_()
    assert_same_bits(kept.take([2, 4]), features.take([2, 4]))


def test_what_was_taken_outlives_the_rest(tmp_path: Path) -> None:
    taken = on_disk(made(7), tmp_path).take([2, 3])
    gc.collect()
    assert_same_bits(taken, made(7).take([2, 3]))


@given(order=st.permutations(range(5)))
def test_rows_may_be_put_in_any_order(order: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    values = torch.arange(10.0).view(5, 2)
    mapped = MappedTensor((5, 2), torch.float32, tmp_path_factory.getbasetemp())
    for row in order:
        mapped.put(row, values[row : row + 1])
    assert torch.equal(mapped.take(range(5)), values)


def test_gradients_are_not_kept(tmp_path: Path) -> None:
    mapped = MappedTensor((2, 3), torch.float32, tmp_path)
    with torch.inference_mode():
        mapped.put(0, torch.ones(2, 3))
    assert not mapped.take([0]).requires_grad


# Where they are kept


def test_the_limit_decides_where_features_are_kept(tmp_path: Path) -> None:
    like = made(2)
    needed = n_bytes(like, 10)
    assert needed == 10 * (3 * 8 * 12 + 7 * 4 * 6) * 4
    held, kept = (room_for(like, 10, memory, tmp_path) for memory in (needed, needed - 1))
    assert isinstance(held, Features)
    assert [level.shape for level in held.levels] == [(10, 3, 8, 12), (10, 7, 4, 6)]
    assert isinstance(kept, SpilledFeatures)


def test_features_for_which_the_device_has_no_room_go_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(features: Features, count: int) -> Features:
        torch_error()
        raise AssertionError

    monkeypatch.setattr(Features, "room", no_room)
    assert isinstance(room_for(made(2), 10, 2**30, tmp_path), SpilledFeatures)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes on disk of every file at the moment when it is mapped."""
    found: list[int] = []

    class Mapped(mmap.mmap):
        def __new__(cls, file: int, size: int) -> "Mapped":
            found.append(os.fstat(file).st_blocks * 512)
            return super().__new__(cls, file, size)

    monkeypatch.setattr(mmap, "mmap", Mapped)
    return found


def test_the_file_has_no_name_and_its_space_is_taken_at_once(tmp_path: Path, taken: list[int]) -> None:
    mapped = MappedTensor((64, 2**18), torch.uint8, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert taken[0] >= 2**24
    assert mapped.take([63]).sum() == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here to see open files in")
def test_files_are_closed_when_nothing_refers_to_them(tmp_path: Path) -> None:
    def of_folder() -> list[str]:
        links = (link for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
        return [target for link in links if str(tmp_path) in (target := str(link.readlink()))]

    kept = on_disk(made(7), tmp_path)
    assert len(of_folder()) == 4  # of each level the file and its map
    del kept
    assert of_folder() == []


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    features = made(7)
    assert_same_bits(on_disk(features, tmp_path / "cache" / "stores").take([6]), features.take([6]))


# Disks that do not take them


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_an_error_that_names_folder_and_need(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    like = Features((torch.zeros(1, 2**18),), SIZE)  # a MiB
    with pytest.raises(StorageError, match=rf"^{tmp_path}: 1\.50 GiB of features.*{os.strerror(number)}.*`cache`"):
        SpilledFeatures(like, 1536, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_than_any_disk_has_is_an_error(tmp_path: Path) -> None:
    like = Features((torch.zeros(1, 2**10),), SIZE)
    with pytest.raises(StorageError, match=r"262144\.00 GiB of features cannot be written"):
        SpilledFeatures(like, 2**36, tmp_path)


@pytest.fixture
def unreserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that takes no space beforehand."""

    def unable(file: int, start: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unable)


@pytest.mark.usefixtures("unreserved")
def test_a_file_system_that_cannot_reserve_space_keeps_features_as_well(tmp_path: Path) -> None:
    features = made(7)
    assert_same_bits(on_disk(features, tmp_path).take([6, 0]), features.take([6, 0]))


@pytest.mark.usefixtures("unreserved")
def test_a_disk_that_is_full_midway_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kept = SpilledFeatures(made(2), 10, tmp_path)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match=rf"^{tmp_path}: 0\.00 GiB of features.*No space left on device"):
        kept.put(0, made(2))


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file: .* GiB of features cannot be written there"):
        SpilledFeatures(made(2), 10, tmp_path / "file")
