"""Who may talk to the page's server, for how much and how long, and what browsers may do with its answers."""

import asyncio
import ipaddress
import socket
from hashlib import sha256
from secrets import compare_digest
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewshot.demo.images import MEBIBYTE, RefusedError

# Nothing but this server's own files runs or is shown; `blob:` are pictures that the page has fetched from it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

ACCESS = "access"
"""The part of the printed address that holds the access token."""


def is_loopback(host: str) -> bool:
    """Tell whether a name or address means this computer alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.2", "scanner")]
    [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def may_be_called(name: str, host: str) -> bool:
    """Tell whether requests may call a server that listens at a host by a name, as in the Host header without its port.

    A page of anybody's may let its own domain's name point to this computer and then ask in that name (DNS
    rebinding). Addresses cannot be redirected, so all are good if the server listens to the network.
    """
    if is_loopback(name):
        return True
    if is_loopback(host):
        return False
    if name.lower() in (host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware that turns away other pages and whoever lacks the access token, and tells browsers what is allowed.

    The token, None where none is asked for, comes once in the address that the terminal shows, and in a cookie from
    then on: an address is seen by onlookers, and kept in the browser's history.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None = None) -> None:
        self.app = app
        self.host = host
        self.token = token
        # Cookies are shared by all servers of a computer, whatever their ports.
        self.cookie = f"fewshot-{sha256((token or '').encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return what a request is answered in place of the page; None if it may have what it asks for."""
        headers = Headers(scope=scope)
        called = headers.get("host", "")
        if not may_be_called(_hostname(called), self.host):
            complaint = "this server does not answer to that name; open the address that it has printed"
            return JSONResponse({"error": complaint}, 403)
        origin = headers.get("origin")
        of_others = origin is not None and _netloc(origin) != called
        if of_others or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return JSONResponse({"error": "requests of other pages are not served"}, 403)
        if self.token is None or self._is_token(cookie_parser(headers.get("cookie", "")).get(self.cookie, "")):
            return None
        if scope["path"] == "/" and self._is_token(QueryParams(scope["query_string"]).get(ACCESS, "")):
            welcome = RedirectResponse("/", 303)
            welcome.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return welcome
        return JSONResponse({"error": "open the whole address that the server has printed, with its access token"}, 401)

    def _is_token(self, given: str) -> bool:
        """Compare in a time that says nothing of how much is right."""
        return compare_digest(given.encode(errors="replace"), (self.token or "").encode())


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


JSON_BYTES = 65_536
"""Of a body that is no file."""

HEAD_SECONDS = 10.0  # until a request's head is there, from its connection or the end of the one before
PAUSE_SECONDS = 15.0  # without a byte of a body
TAKING_SECONDS = 60.0  # until the next part of an answer is taken
BODY_SECONDS = 300.0  # of a whole body
LINGER_SECONDS = 2.0  # in which the rest of a refused body is thrown away, so that its sender reads why
CONNECTIONS = 100  # at one time; a browser opens six


class LimitedBodies:
    """Middleware that refuses bodies of more than `most` bytes, declared or sent, and those that come too slowly."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            body = _Body(receive, send, self.most, Headers(scope=scope))
            receive, send = body.receive, body.send
        await self.app(scope, receive, send)


class _Body:
    """The body of one request, on its way from the connection to whoever reads it."""

    def __init__(self, receive: Receive, send: Send, most: int, headers: Headers) -> None:
        self._receive = receive
        self._send = send
        self._most = most
        self._end = monotonic() + BODY_SECONDS
        self._size = 0
        declared = headers.get("content-length", "0")
        self._declared = int(declared) if declared.isdecimal() else 0
        self._over = not self._declared and "transfer-encoding" not in headers
        self._answered = False

    async def receive(self) -> Message:
        """Pass on the next part; `RefusedError` where the body is too large, or its sender too slow."""
        if not (self._over or self._answered):
            try:
                return await self._fair_part()
            except RefusedError:
                if not self._answered:
                    raise
        # Files are sent while another task listens for the end of the connection: it is too late for another answer.
        return await self._receive()

    async def _fair_part(self) -> Message:
        self._require_fair(self._declared)
        try:
            message = await self._next(min(PAUSE_SECONDS, self._end - monotonic()))
        except TimeoutError:
            raise RefusedError("the request took too long to arrive; try again", 408) from None
        self._require_fair(self._size)
        return message

    async def send(self, message: Message) -> None:
        """Pass on the answer; one that comes before the body is over ends the connection."""
        self._answered = True
        if message["type"] == "http.response.start" and not self._over:
            await self._throw_away()
            MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)

    async def _next(self, seconds: float) -> Message:
        message = await asyncio.wait_for(self._receive(), max(0.0, seconds))
        self._size += len(message.get("body", b""))
        self._over = not message.get("more_body", False)
        return message

    async def _throw_away(self) -> None:
        end = monotonic() + LINGER_SECONDS
        while not self._over and monotonic() < end:
            try:
                await self._next(end - monotonic())
            except TimeoutError:
                return

    def _require_fair(self, size: int) -> None:
        if size > self._most:
            raise RefusedError(f"larger than {self._most // MEBIBYTE} MB; send less", 413)


class TimedConnection(H11Protocol):
    """Uvicorn's connection, which is cut where its other end neither asks for anything nor takes its answer.

    Uvicorn by itself waits without end for the first request, for the rest of a head, and for an answer to be taken.
    """

    _asking: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, unless there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes in, which do not put the end off until a head is whole."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Begin to wait for the answer to be taken."""
        super().pause_writing()
        self._taking = self.loop.call_later(TAKING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting: it was taken."""
        super().resume_writing()
        _stop(self._taking)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting for anything."""
        _stop(self._asking)
        _stop(self._taking)
        super().connection_lost(exc)

    def _watch(self) -> None:
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            _stop(self._asking)
            self._asking = None
        elif self._asking is None:
            self._asking = self.loop.call_later(HEAD_SECONDS, self.transport.abort)


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
