"""Locks, between processes that are forked from this one."""

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import pytest

from episodes.errors import StorageError, UserError
from episodes.io import locks
from episodes.io.files import write_text
from episodes.io.locks import exclusive_lock, waiting_lock

_fork = multiprocessing.get_context("fork")


def hold(path: Path, ours: Connection) -> None:
    with exclusive_lock(path):
        ours.send("held")
        ours.recv()


@contextmanager
def held_elsewhere(path: Path) -> Iterator[int]:
    """Another process holds a lock for as long as the block runs; gives its number."""
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=hold, args=(path, theirs))
    process.start()
    try:
        assert ours.recv() == "held"
        assert process.pid is not None
        yield process.pid
        if process.is_alive():
            ours.send("let go")
    finally:
        process.join()


def test_the_second_process_is_told_which_is_the_first(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "run") as pid:
        for _ in range(2):  # asking changes nothing
            expected = rf"run: process {pid} on {socket.gethostname()} is at work there; wait until it has ended, or"
            with pytest.raises(UserError, match=expected), exclusive_lock(tmp_path / "run"):
                pytest.fail("held by two")
    with exclusive_lock(tmp_path / "run"):
        pass


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "run") as pid:
        os.kill(pid, signal.SIGKILL)
        while True:
            try:
                with exclusive_lock(tmp_path / "run"):
                    break
            except UserError:  # it takes the system a moment
                time.sleep(0.001)
    assert not list(tmp_path.iterdir())


def test_other_names_are_free(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path / "run"),
        exclusive_lock(tmp_path / "run2"),
        exclusive_lock(tmp_path / "run" / "model"),
    ):
        pass


def test_two_ways_to_a_folder_are_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path / "run")
    with held_elsewhere(tmp_path / "run"):
        for path in (Path("../run"), Path(), tmp_path / "link"):
            with pytest.raises(UserError, match="is at work there"), exclusive_lock(path):
                pytest.fail("held by two")


def test_who_has_it_may_take_it_again_but_no_other_thread(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            with exclusive_lock(tmp_path / "run"):
                pytest.fail("held by two")
        except UserError as error:
            refused.append(str(error))

    with exclusive_lock(tmp_path / "run"):
        with exclusive_lock(tmp_path / "run"), waiting_lock(tmp_path / "run"):
            pass
        thread = Thread(target=other)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on" in refused[0]


def test_in_turn_waits(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "run"):
        done: list[bool] = []

        def wait() -> None:
            with waiting_lock(tmp_path / "run"):
                done.append(True)

        thread = Thread(target=wait)
        thread.start()
        thread.join(0.2)
        assert not done
    thread.join()
    assert done == [True]


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "runs" / "new" / "run"):
        assert (tmp_path / "runs" / "new" / ".run.lock").is_file()
    assert not list(tmp_path.iterdir())


def test_a_folder_can_be_replaced_while_it_is_locked(tmp_path: Path) -> None:
    write_text(tmp_path / "run" / "config.yaml", "old")
    with exclusive_lock(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "aside")
        assert (tmp_path / ".run.lock").is_file()


def test_what_a_killed_process_left_is_removed_by_who_is_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "run" / ".config.yaml.12-89abcdef-0.partial" / "config.yaml", "half")
    with exclusive_lock(tmp_path / "run"):
        assert not list((tmp_path / "run").iterdir())


def test_a_folder_in_one_of_somebody_else_s_holds_its_lock_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a volume mounted at the root."""
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with exclusive_lock(tmp_path / "out"):
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
    assert not list((tmp_path / "out").iterdir())


def test_where_no_lock_can_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"run: cannot be written"), exclusive_lock(tmp_path / "file" / "run"):
        pytest.fail("there is no such folder")


def test_a_full_disk_that_has_no_room_for_a_number_keeps_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    at_work = pytest.raises(UserError, match="another process is at work")
    with held_elsewhere(tmp_path / "run"), at_work, exclusive_lock(tmp_path / "run"):
        pytest.fail("held by two")


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF], ids=errno.errorcode.get)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mount everything as on a network without locks."""

    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    locks._warn_of_missing_locks.cache_clear()


@pytest.mark.usefixtures("no_locks")
def test_a_file_system_without_locks_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("run", "other"):
        with exclusive_lock(tmp_path / "new" / name), exclusive_lock(tmp_path / "new" / name):
            write_text(tmp_path / "new" / name / "a.txt", "a")
        with waiting_lock(tmp_path / "new" / name):
            pass
    assert [message.partition(":")[0] for message in caplog.messages] == ["the file system keeps no locks"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["other", "run"]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_two_processes_are_kept_apart_nevertheless(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "run") as pid:
        refused = pytest.raises(UserError, match=rf"process {pid} on {socket.gethostname()} is at work there")
        with refused, exclusive_lock(tmp_path / "run"):
            pytest.fail("held by two")
        os.kill(pid, signal.SIGKILL)
    with exclusive_lock(tmp_path / "run"):
        pass
