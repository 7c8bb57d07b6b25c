"""Files and folders written whole or not at all."""

import errno
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import StorageError, UserError
from episodes.io import files
from episodes.io.files import (
    files_written_whole,
    folder_written_whole,
    remove_folder,
    remove_leftovers,
    require_free,
    write_bytes,
    write_text,
    write_texts,
    written_whole,
)
from episodes.io.locks import exclusive_lock


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


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_need_not_be_durable_is_whole_as_well(
    tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "a.txt"
    write_bytes(path, b"first", durable=False)

    def fail(*_: Path) -> None:
        raise error

    write_bytes(path, b"second", durable=False)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
            write_bytes(path, b"third", durable=False)
    assert path.read_bytes() == b"second"
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
    write_text(tmp_path / "a", "é\nb\n")
    assert (tmp_path / "a").read_bytes() == "é\nb\n".encode()


# Several files


def test_several_files_are_all_there_or_none(tmp_path: Path) -> None:
    paths = [tmp_path / "new" / "a.txt", tmp_path / "other" / "b.txt"]
    with files_written_whole(*paths) as partials:
        for partial in partials:
            assert not any(path.exists() for path in paths)
            partial.write_text(partial.name)
    assert [path.read_text() for path in paths] == ["a.txt", "b.txt"]
    assert [names(path.parent) for path in paths] == [["a.txt"], ["b.txt"]]


def test_of_several_files_none_is_there_where_one_fails_nor_a_folder_made_for_them(tmp_path: Path) -> None:
    paths = [tmp_path / "new" / "deep" / "a.txt", tmp_path / "other" / "b.txt"]
    with pytest.raises(StorageError, match=r"b\.txt: cannot be written"), files_written_whole(*paths) as partials:
        partials[0].write_text("whole")  # and the other is forgotten
    assert not names(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_told_by_the_final_names(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes, and whether the error names a file, or a hidden one."""
    monkeypatch.chdir(tmp_path)

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_bytes", full)
    for write, named in (
        (lambda folder: full(), "out"),
        (lambda folder: write_text(folder / "masks" / "a.txt", "text"), "out/masks/a.txt"),
    ):
        with pytest.raises(StorageError) as caught, folder_written_whole(Path("out")) as folder:
            write(folder)
        assert str(caught.value).startswith(f"{named}: cannot be written ({os.strerror(code)}); free some space")
        assert not names(tmp_path)
    with pytest.raises(StorageError, match=r"^a\.txt: cannot be written"):
        write_texts({Path("a.txt"): "a", Path("b.txt"): "b"})
    assert not names(tmp_path)


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
        run / "models" / ".state.safetensors.123-89abcdef-0.partial" / ".tmpA1b2C3",
        run / ".config.yaml.9-89abcdef-1.partial" / "config.yaml",
        tmp_path / ".run.77-89abcdef-2.partial" / "config.yaml",
    ]
    kept = [
        run / "config.yaml",
        run / ".mine.partial",  # without a process, it is the user's
        run / "models" / ".gitignore",
        tmp_path / ".other.123-89abcdef-3.partial" / "file",  # another run's, which may be at work
        tmp_path / ".run.lock",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remove_leftovers(run)
    assert [path for path in left if path.parent.exists() and path.parent.name.endswith("partial")] == []
    assert all(path.is_file() for path in kept)


def test_what_a_killed_process_left_in_a_folder_is_removed_by_the_next_that_writes_there(tmp_path: Path) -> None:
    killed = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(tmp_path / "a.txt",))
    killed.start()
    killed.join()
    (left,) = tmp_path.glob(".a.txt.*.partial")
    alive = left.with_name(left.name.replace(f".{killed.pid}-", f".{os.getpid()}-"))
    elsewhere = left.with_name(f".a.txt.{killed.pid}-0123abcd-0.partial")  # another machine's process of that number
    for path in (alive, elsewhere, tmp_path / ".mine.partial"):
        path.mkdir()
    files._remove_abandoned.cache_clear()
    write_text(tmp_path / "b.txt", "text")
    assert names(tmp_path) == sorted([".mine.partial", alive.name, elsewhere.name, "b.txt"])


def _die_while_writing(path: Path) -> None:
    with written_whole(path) as partial:
        partial.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


@given(
    stem=st.sampled_from(["a", "é", "字", "🎈", ".", "a."]).flatmap(
        lambda one: st.integers(1, 255).map(lambda n: one * n)
    ),
    folder=st.booleans(),
)
def test_names_may_be_as_long_as_the_file_system_lets_them(
    stem: str, folder: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = os.fsencode(stem)[:255].decode(errors="ignore")
    path = tmp_path_factory.mktemp("long") / (name if name.strip(".") else "a")
    with exclusive_lock(path), folder_written_whole(path) if folder else written_whole(path) as partial:
        (partial / "file" if folder else partial).write_text("text")
    assert names(path.parent) == [path.name]
    (hidden := files._temporary(path)).mkdir()
    remove_leftovers(path)
    assert not hidden.exists()


# May it be written


def test_what_is_there_is_not_written_unasked(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    require_free(tmp_path / "new" / "b", tmp_path / "c")
    require_free(tmp_path / "a", overwrite=True)
    for name, overwrite, advice in (("a", None, "so that nothing"), ("dangling", False, "or replace it with --over")):
        with pytest.raises(UserError, match=rf"{name}: exists already; choose another name, {advice}"):
            require_free(tmp_path / "new", tmp_path / name, overwrite=overwrite)


def test_a_place_that_cannot_be_written_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"out: cannot be written \(Not a directory\)"):
        require_free(tmp_path / "file" / "out")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(StorageError, match=r"out: cannot be written \(Permission denied\)"):
        require_free(tmp_path / "new" / "out")


def test_of_a_file_only_its_own_leftovers_are_removed(tmp_path: Path) -> None:
    for name in (".a.safetensors.1-89abcdef-0.partial", ".b.safetensors.1-89abcdef-0.partial"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path / "a.safetensors")
    assert names(tmp_path) == [".b.safetensors.1-89abcdef-0.partial"]
