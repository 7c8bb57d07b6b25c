"""Files and folders written whole or not at all."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from episodes.errors import ManifestError, StorageError
from episodes.io.files import (
    folder_written_whole,
    remove_folder,
    remove_leftovers,
    write_lines,
    write_text,
    written_whole,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Files


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with written_whole(path) as partial:
        assert partial.name == "a.txt"  # some libraries go by the ending
        partial.write_text("half")
        assert not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            (partial.parent / ".library-s-own").touch()
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_the_system_refuses_is_said_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    complaint = r"a\.txt: cannot be written \(.*No space.*\); free some space"
    with pytest.raises(StorageError, match=complaint), written_whole(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not names(tmp_path)


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that loses power may leave an empty file of that name."""
    path, synced = tmp_path / "a.txt", list[tuple[str, bool]]()

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "text")
    assert synced == [("a.txt", False), (tmp_path.name, True)]


def test_a_full_disk_found_at_the_last_moment_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems find room only when they have to."""
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="free some space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_lines_end_alike_everywhere(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", ["é", "b"], overwrite=False)
    assert (tmp_path / "a").read_bytes() == "é\nb\n".encode()


def test_lines_are_not_written_over_others_unasked(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", ["old"], overwrite=False)
    with pytest.raises(ManifestError, match="a: exists already"):
        write_lines(tmp_path / "a", ["new"], overwrite=False)
    assert (tmp_path / "a").read_text() == "old\n"
    write_lines(tmp_path / "a", ["new"], overwrite=True)
    assert (tmp_path / "a").read_text() == "new\n"


# Folders


def test_a_folder_takes_its_name_when_it_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "a"
    with folder_written_whole(folder) as partial:
        (partial / "below").mkdir()
        (partial / "below" / "file").write_text("content")
        assert not folder.exists()
    assert (folder / "below" / "file").read_text() == "content"
    assert names(folder.parent) == ["a"]


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "old", "old")
    with folder_written_whole(tmp_path / "a") as partial:
        (partial / "new").touch()
        assert names(tmp_path / "a") == ["old"]
    assert names(tmp_path / "a") == ["new"]
    assert names(tmp_path) == ["a"]


def test_a_folder_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "old", "old")
    with pytest.raises(FileExistsError), folder_written_whole(tmp_path / "a") as partial:
        shutil.copytree(tmp_path / "a", partial)
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["old"]


def test_reading_that_fails_within_is_no_matter_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), folder_written_whole(tmp_path / "a"):
        (tmp_path / "missing").read_text()


def test_a_process_killed_while_it_removes_a_folder_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a run would be taken for somebody's files, and the run refused for ever."""
    write_text(tmp_path / "a" / "file", "content")

    def killed(folder: Path) -> None:
        (folder / "file").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    remove_leftovers(tmp_path / "a")
    assert not names(tmp_path)


def test_removing_a_folder_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    remove_folder(tmp_path / "a")
    assert not names(tmp_path)


# Killed processes


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    left = [
        run / "models" / ".state.safetensors.123.partial" / ".tmpA1b2C3",
        run / ".config.yaml.9.partial" / "config.yaml",
        tmp_path / ".run.77.removed.partial" / "config.yaml",
    ]
    kept = [
        run / "config.yaml",
        run / ".mine.partial",  # without a process, it is the user's
        run / "models" / ".gitignore",
        tmp_path / ".other.123.partial" / "file",  # another run's, which may be at work
        tmp_path / ".run.lock",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remove_leftovers(run)
    assert [path for path in left if path.parent.exists() and path.parent.name.endswith("partial")] == []
    assert all(path.is_file() for path in kept)


def test_of_a_file_only_its_own_leftovers_are_removed(tmp_path: Path) -> None:
    for name in (".a.safetensors.1.partial", ".b.safetensors.1.partial"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path / "a.safetensors")
    assert names(tmp_path) == [".b.safetensors.1.partial"]
