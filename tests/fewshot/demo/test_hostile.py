"""A hostile client over real sockets: bodies, times, heads and tokens that no browser would send."""

import asyncio
import io
import json
import logging
import os
import re
import socket
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from itertools import product
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from fewshot.demo import guard
from fewshot.demo.choices import MethodChoice
from fewshot.demo.images import MEBIBYTE, SessionLimits
from fewshot.demo.sessions import Sessions

SOON = 0.3  # in place of seconds of patience
BODIES = ["/session", "/session/end", "/supports", "/queries/0/answer", "/archive", "/", "/nothing"]


@dataclass(frozen=True)
class Victim:
    """A server that answers at a port of this computer."""

    port: int
    sessions: Sessions
    token: str | None

    def raw(self, sent: bytes, seconds: float = 5) -> bytes:
        """Send bytes, and return all that comes until the other end closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(sent)
            answer = b""
            try:
                while part := connection.recv(65_536):
                    answer += part
            except ConnectionResetError:
                pass
            return answer

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        answer.text = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def begin(self) -> dict[str, str]:
        return {"fewshot-session": json.loads(self.ask("POST", "/session").text)["token"]}  # type: ignore[attr-defined]


class Faults(logging.Handler):
    """The errors that a server logs, tracebacks among them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


Start = Callable[..., Victim]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_name: dict[str, MethodChoice]) -> Iterator[Start]:
    """Start servers as `serve` does; none may log a traceback."""
    from fewshot.demo.server import build_app, new_server, server_folder

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("HEAD_SECONDS", "PAUSE_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(guard, name, SOON)
    running, faults = [], Faults()
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addHandler(faults)

    def begin(host: str = "127.0.0.1", token: str | None = None, allowed: SessionLimits | None = None) -> Victim:
        listener = socket.create_server(("127.0.0.1", 0))
        folder = server_folder()
        sessions = Sessions(folder.__enter__(), allowed or SessionLimits())
        server = new_server(build_app([by_name["prior prototypes"]], sessions, host, token))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, listener, folder))
        return Victim(listener.getsockname()[1], sessions, token)

    yield begin
    for server, thread, listener, folder in running:
        server.should_exit = True
        thread.join()
        listener.close()
        folder.__exit__(None, None, None)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).removeHandler(faults)
    assert faults.messages == []


def resident() -> int:
    """Count the bytes of memory that this process, and so the server, has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1.1 (\d+) ", answer)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("form", ["declared", "chunked"])
def test_a_body_too_large_is_refused_before_it_is_there(start: Start, form: str) -> None:
    victim = start(allowed=SessionLimits(file_bytes=MEBIBYTE))
    for path in BODIES:
        send_without_end(victim, path, form)
    assert victim.ask("GET", "/").status == 200


def send_without_end(victim: Victim, path: str, form: str) -> None:
    headers = {"declared": "Content-Length: 1500000000", "chunked": "Transfer-Encoding: chunked"}[form]
    part = b"x" * 65_536
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", victim.port), timeout=10) as connection:
        connection.sendall(head)
        sent, began = 0, monotonic()
        try:
            while sent < 1_500_000_000:
                connection.sendall((b"10000\r\n" if form == "chunked" else b"") + part + b"\r\n" * (form == "chunked"))
                sent += len(part)
        except OSError:
            pass  # the server has closed
    assert sent < 1_500_000_000
    assert monotonic() - began < 10


def test_memory_stays_flat_while_a_body_is_thrown_away(start: Start) -> None:
    victim, part = start(), b"x" * MEBIBYTE
    before = resident()
    peak = 0
    with socket.create_connection(("127.0.0.1", victim.port), timeout=10) as connection:
        connection.sendall(b"POST /session/end HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1500000000\r\n\r\n")
        try:
            while True:
                connection.sendall(part)
                peak = max(peak, resident())
        except OSError:
            pass
    assert peak - before < 32 * MEBIBYTE


@pytest.mark.parametrize("path", ["/session/end", "/queries/0/answer"])
def test_json_bodies_are_small(start: Start, path: str) -> None:
    victim = start()
    session = victim.begin()
    refused = victim.ask("POST", path, b"[" * (guard.JSON_BYTES + 1), session)
    assert refused.status == 413
    assert b"larger than 64 KB" in refused.text  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", 0),
        (b"GET / HT", 0),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ", 0),
        (b"POST /session/end HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc", 408),
        (b"POST /session/end HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", 408),
    ],
)
def test_half_open_connections_are_closed(start: Start, sent: bytes, answered: int) -> None:
    began = monotonic()
    assert status(start().raw(sent)) == answered
    assert monotonic() - began < 4


def is_cut(connection: socket.socket, content: bytes) -> bool:
    """Send the same again and again, and tell whether the other end cuts the connection."""
    try:
        for _ in range(100):
            connection.sendall(content)
            threading.Event().wait(0.05)
    except OSError:
        return True
    return False


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(start: Start) -> None:
    began = monotonic()
    with socket.create_connection(("127.0.0.1", start().port), timeout=5) as connection:
        assert is_cut(connection, b"G")
    assert monotonic() - began < 4


def test_a_head_after_an_answer_is_not_waited_for_either(start: Start) -> None:
    whole = b"GET /icon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    began = monotonic()
    assert status(start().raw(whole + whole[:9])) == 200
    assert monotonic() - began < 4


def test_an_answer_that_is_not_taken_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "TAKING_SECONDS", SOON)
    victim = start()
    many = b"GET /editor.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2_000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", victim.port))
        assert is_cut(connection, many)


def test_more_connections_than_a_browser_opens_are_not_taken(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "CONNECTIONS", 8)
    monkeypatch.setattr(guard, "HEAD_SECONDS", 2.0)
    victim = start()
    idle = [socket.create_connection(("127.0.0.1", victim.port), timeout=5) for _ in range(8)]
    assert victim.raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") == b""
    for connection in idle:
        connection.close()
    assert victim.ask("GET", "/").status == 200


def test_pages_opened_by_the_dozen_lock_nobody_out(start: Start) -> None:
    victim = start()
    assert {victim.ask("POST", "/session").status for _ in range(20)} == {200}
    assert len(victim.sessions) == SessionLimits().sessions


# What used to be a fault of the program


@pytest.mark.parametrize(
    "head",
    [
        "Origin: http://[",
        "Host: [",
        "Host: [::1",
        "Cookie: \xff=;;==",
        "fewshot-session: \xff",
        "Content-Type: \x01",
        "Range: bytes=9-1,-",
        "If-Modified-Since: \xff",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    ],
)
def test_odd_heads_are_refused_and_no_fault(start: Start, head: str) -> None:
    host = "" if head.startswith("Host") else "Host: 127.0.0.1\r\n"
    victim = start()
    paths = ("/", "/session", "/main.js", "/%00", "/%2e%2e/%ff", "/?access=%ff", "/supports/%0a")
    for method, path in product(("GET", "POST"), paths):
        sent = f"{method} {path} HTTP/1.1\r\n{host}{head}\r\nConnection: close\r\n\r\n".encode("latin-1")
        assert status(victim.raw(sent)) < 500


TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=12)
HEADS = st.sampled_from(
    ["origin", "cookie", "fewshot-session", "fewshot-file", "range", "if-none-match", "sec-fetch-site", "content-type"]
)
PARTS = st.sampled_from(
    ["session", "supports", "queries", "0", "answer", "mask", "heat", "archive", "queue", "..", "%00"]
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FOO"])


def test_whatever_is_asked_is_answered_below_500(start: Start) -> None:
    victim = start()
    session = victim.begin()["fewshot-session"]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(METHODS, st.lists(PARTS, max_size=4), st.dictionaries(HEADS, TOKENS, max_size=3), st.binary(max_size=40))
    @example("POST", ["queries", "0", "answer"], {}, b"[" * 60_000)
    @example("POST", ["archive"], {}, b'{"choice": ' + b"[" * 30_000 + b"]" * 30_000 + b"}")
    @example("POST", ["queries", "0", "answer"], {}, b'{"shots": ' + b"9" * 5_000 + b"}")
    @example("POST", ["queries", "0", "answer"], {}, b'{"shots": 0, "choice": "\\ud800"}')
    @example("POST", ["queries"], {"fewshot-file": "%00%ff/.."}, b"\x89PNG")
    def every(method: str, parts: list[str], heads: dict[str, str], body: bytes) -> None:
        lines = [f"{method} /{'/'.join(parts)} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        given_heads = {"fewshot-session": session, **heads}
        lines += [f"{name}: {value}" for name, value in given_heads.items()]
        answer = victim.raw("\r\n".join([*lines, "Connection: close\r\n\r\n"]).encode("latin-1") + body)
        assert 200 <= status(answer) < 500, answer[:300]

    every()


@pytest.mark.parametrize("shape", [(64_000_000, 1), (1, 64_000_000), (16_385, 4)])
@pytest.mark.parametrize("kind", ["queries", "supports"])
def test_an_image_that_is_all_length_is_refused(start: Start, shape: tuple[int, int], kind: str) -> None:
    victim = start()
    header = struct.pack(">II5B", shape[1], shape[0], 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    picture = b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT"
    refused = victim.ask("POST", f"/{kind}", picture, victim.begin())
    assert refused.status == 413
    assert b"16384 along a side" in refused.text  # type: ignore[attr-defined]


def test_a_sender_that_goes_away_leaves_nothing(start: Start) -> None:
    victim = start()
    head = f"POST /queries HTTP/1.1\r\nHost: 127.0.0.1\r\nfewshot-session: {victim.begin()['fewshot-session']}\r\n"
    with socket.create_connection(("127.0.0.1", victim.port)) as connection:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\nabc".encode())
    (session,) = victim.sessions._open.values()
    end = monotonic() + 5
    while any(session.folder.iterdir()):
        assert monotonic() < end


# The access token of a server of the network

TOKEN = "t" * 43
NETWORK = "0.0.0.0"  # noqa: S104 - what a user may ask for


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/main.js",
        "/session",
        "/queue",
        "/?access=",
        "/?access=u",
        f"/?access={TOKEN}x",
        f"/main.js?access={TOKEN}",
    ],
)
def test_without_the_token_nothing_is_given(start: Start, method: str, path: str) -> None:
    victim = start(NETWORK, TOKEN)
    refused = victim.ask(method, path, headers={"Cookie": f"fewshot={TOKEN}; {guard.ACCESS}={TOKEN}"})
    assert refused.status == 401
    assert refused.headers["Set-Cookie"] is None
    assert refused.headers["Content-Security-Policy"]
    assert len(victim.sessions) == 0


def test_the_printed_address_gives_a_cookie_and_the_cookie_the_page(start: Start) -> None:
    victim = start(NETWORK, TOKEN)
    welcome = victim.ask("GET", f"/?{guard.ACCESS}={TOKEN}")
    assert (welcome.status, welcome.headers["Location"]) == (303, "/")
    cookie = welcome.headers["Set-Cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    shown = {"Cookie": cookie.split(";")[0]}
    assert [victim.ask("GET", path, headers=shown).status for path in ("/", "/main.js")] == [200, 200]
    assert victim.ask("POST", "/session", headers=shown).status == 200
    other = {"Cookie": cookie.split(";")[0][:-1]}
    assert victim.ask("GET", "/", headers=other).status == 401


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(*pair: bytes) -> bool:
        compared.append(pair)
        return False

    monkeypatch.setattr(guard, "compare_digest", compare)
    assert not guard.Guard(JSONResponse({}), NETWORK, TOKEN)._is_token(TOKEN)
    assert compared == [(TOKEN.encode(), TOKEN.encode())]


@pytest.mark.parametrize(("host", "asked"), [("127.0.0.1", False), ("::1", False), (NETWORK, True)])
def test_a_token_is_asked_for_where_others_can_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, choices: list[MethodChoice], host: str, asked: bool
) -> None:
    from rich.console import Console

    from fewshot.demo import server

    tokens, printed = [], io.StringIO()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(server, "load_choices", lambda *_: choices)
    monkeypatch.setattr(server, "build_app", lambda *words: tokens.append(words[3]))
    monkeypatch.setattr(server, "new_server", lambda _: type("Stopped", (), {"run": lambda *_, **__: None})())
    server.serve([], Console(file=printed, width=40), host=host, port=0)
    (address,) = re.findall(r"^http://.*$", printed.getvalue(), re.MULTILINE)
    assert (tokens[0] is not None) == asked == (guard.ACCESS in address)
    if asked:
        assert len(tokens[0]) >= 43
        assert address.endswith(f"/?{guard.ACCESS}={tokens[0]}")


def test_who_listens_while_a_file_is_sent_gets_no_second_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(guard, "LINGER_SECONDS", 0.1)
    sent: list[Any] = []

    async def nothing() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def send_a_file(scope: Any, receive: Any, send: Any) -> None:
        listening = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert not listening.done()
        listening.cancel()

    scope = {"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}
    asyncio.run(guard.LimitedBodies(send_a_file, 100)(scope, nothing, send))
    assert sent == ["http.response.start"]
