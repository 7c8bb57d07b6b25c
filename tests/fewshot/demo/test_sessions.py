"""Temporary folders: private, deleted at the end, and swept where a server was killed."""

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from episodes.errors import UserError
from fewshot.demo.images import RefusedError, SessionLimits
from fewshot.demo.server import server_folder
from fewshot.demo.sessions import Session, Sessions
from tests.fewshot.demo.conftest import Annotated


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_nobody_else_may_look_into_a_sessions_folder(temporary: Path) -> None:
    with server_folder() as folder:
        session = Sessions(folder, SessionLimits()).open()
        assert folder.is_relative_to(temporary)
        for private in (session.folder, folder, folder.parent):
            assert private.stat().st_mode & 0o777 == 0o700
        assert session.token not in str(session.folder)


def test_tokens_cannot_be_guessed_from_each_other(temporary: Path) -> None:
    with server_folder() as folder:
        sessions = Sessions(folder, SessionLimits(sessions=100))
        tokens = {sessions.open().token for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43  # 256 bits


@pytest.mark.parametrize("what", ["open to all", "a link"])
def test_a_folder_that_others_may_have_laid_out_is_refused(temporary: Path, what: str) -> None:
    with server_folder() as folder:
        above = folder.parent
    above.rmdir()
    if what == "a link":
        (temporary / "elsewhere").mkdir(mode=0o700)
        above.symlink_to(temporary / "elsewhere")
    else:
        above.mkdir()
        above.chmod(0o777)
    with pytest.raises(UserError, match="is not a private folder of yours; remove it, or set TMPDIR"), server_folder():
        pass


def start_and_stop() -> Path:
    with server_folder() as folder:
        assert folder.is_dir()
    return folder


def test_what_a_killed_server_has_left_is_deleted_and_nothing_of_one_that_lives(temporary: Path) -> None:
    with server_folder() as alive:
        (alive / "kept").touch()
        dead = alive.parent / "0123456789abcdef"
        (dead / "session").mkdir(parents=True)
        (dead / "session" / "upload").touch()
        with ThreadPoolExecutor(1) as pool:  # a lock can be taken again by the thread that has it
            other = pool.submit(start_and_stop).result()
        assert not dead.exists()
        assert (alive / "kept").exists()
        assert other != alive
        assert not other.exists()
    assert not alive.exists()
    assert files_in(temporary) == []


def test_a_session_that_ends_while_something_is_written_keeps_none_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    session = Session("token", folder, SessionLimits())
    with session.writing():
        session.close()
        folder.mkdir()
        (folder / "late").touch()
    assert not folder.exists()
    with pytest.raises(RefusedError, match="the session has ended"), session.writing():
        pass


def test_a_file_that_another_request_deletes_meanwhile_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"123")
    (tmp_path / "just deleted").symlink_to(tmp_path / "nothing")
    assert Session("token", tmp_path, SessionLimits()).bytes() == 3


@pytest.mark.parametrize(("closed", "message"), [(False, "free some space"), (True, "the session has ended")])
def test_a_full_disk_is_told_from_a_session_that_was_closed(tmp_path: Path, closed: bool, message: str) -> None:
    session = Session("token", tmp_path / "session", SessionLimits())

    def write() -> None:
        with session.writing():
            if closed:
                session.close()
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=message):
        write()


# The whole server, as a process


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


SIGNALS = [
    signal.SIGTERM,
    pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_server_deletes_all_uploads_and_a_killed_ones_are_deleted_by_the_next(
    checkpoints: dict[str, Path], annotated: list[Annotated], tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "fewshot", "demo", str(checkpoints["prior"]), "--port", "0", "--device", "cpu"]

    @contextmanager
    def started() -> Iterator[subprocess.Popen[str]]:
        environment = {"TMPDIR": str(tmp_path), "PATH": "", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603
            try:
                yield process
            finally:
                process.kill()

    def upload(process: subprocess.Popen[str]) -> None:
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        address = next(line.strip() for line in lines if line.startswith("http://127.0.0.1:"))
        with urlopen(Request(f"{address}/session", method="POST")) as answer:  # noqa: S310 - our own server
            token = answer.read().decode().split('"token":"')[1].split('"')[0]
        headers = {"fewshot-session": token, "fewshot-file": "a.png"}
        with urlopen(Request(f"{address}/queries", annotated[0].path.read_bytes(), headers)) as answer:  # noqa: S310
            assert answer.status == 200

    with started() as process:
        upload(process)
        assert len(files_in(tmp_path)) == 1
        process.send_signal(number)
        status = process.wait(30)
    if number == signal.SIGKILL:
        assert len(files_in(tmp_path)) == 1
        with started() as process:
            assert process.stderr
            wait_for(lambda: "http://" in process.stderr.readline())  # type: ignore[union-attr]
            assert files_in(tmp_path) == []
            process.terminate()
            status = process.wait(30)
    assert status == 0
    assert files_in(tmp_path) == []
    assert [path for path in tmp_path.glob("fewshot-demo-*/*") if path.is_dir()] == []
