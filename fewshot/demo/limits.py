"""Limits to what a request may take before anybody looks at it: bytes, time and connections."""

import asyncio
from time import monotonic
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewshot.demo.images import MEBIBYTE, RefusedError

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
