"""The page's server: routes, temporary folder, start and stop."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import uvicorn
from rich.console import Console
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from episodes.errors import StorageError, UserError
from episodes.io.locks import exclusive_lock
from fewshot.demo import requests
from fewshot.demo.choices import MethodChoice, load_choices
from fewshot.demo.guard import ACCESS, JSON_BYTES, Guard, LimitedBodies, TimedConnection, is_loopback
from fewshot.demo.images import RefusedError, SessionLimits
from fewshot.demo.sessions import PRIVATE, Kind, Sessions

PAGE = Path(__file__).parent / "page"

# Between looks for sessions that were not used for long.
TIDYING_SECONDS = 20.0

KINDS: tuple[Kind, ...] = ("supports", "queries")
ROUTES = [
    Route("/session", requests.begin, methods=["POST"]),
    Route("/session/end", requests.end, methods=["POST"]),
    Route("/supports/{image}/mask", requests.show_painting, methods=["GET"]),
    Route("/supports/{image}/mask", requests.paint, methods=["PUT"]),
    Route("/supports/{image}/mask-file", requests.read_mask, methods=["POST"]),
    Route("/queries/{image}/answer", requests.answer, methods=["POST"]),
    Route("/queries/{image}/heat", requests.heat_map, methods=["POST"]),
    Route("/queue", requests.queue, methods=["GET"]),
    Route("/archive", requests.archive, methods=["POST"]),
    *(
        route
        for kind in KINDS
        for route in (
            Route(f"/{kind}", partial(requests.add_image, kind=kind), methods=["POST"]),
            Route(f"/{kind}/{{image}}", partial(requests.remove_image, kind=kind), methods=["DELETE"]),
            Route(f"/{kind}/{{image}}/picture", partial(requests.show_image, kind=kind), methods=["GET"]),
        )
    ),
    Mount("/", StaticFiles(directory=PAGE, html=True)),
]


def build_app(
    choices: Sequence[MethodChoice], sessions: Sessions, host: str = "127.0.0.1", token: str | None = None
) -> Starlette:
    """Build the server of the page, which will listen at a host; all sessions are closed when it stops.

    The token, if there is one, is asked of everybody.
    """
    demo = requests.Demo(
        {choice.id: choice for choice in choices}, sessions, requests.Worker("computing"), requests.Worker("decoding")
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        tidying = asyncio.create_task(_tidy(sessions))
        try:
            yield
        finally:
            tidying.cancel()
            with suppress(asyncio.CancelledError):
                await tidying
            sessions.close_all()
            demo.computing.stop()
            demo.decoding.stop()

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(LimitedBodies, most=sessions.limits.file_bytes + JSON_BYTES),
            Middleware(Guard, host=host, token=token),
        ],
        exception_handlers=dict.fromkeys((UserError, HTTPException, ClientDisconnect, Exception), _explain),
        lifespan=lifespan,
    )
    app.state.demo = demo
    return app


async def _tidy(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(TIDYING_SECONDS)
        sessions.expire()


async def _explain(request: Request, error: Exception) -> Response:
    """Answer with what went wrong; of a fault of the program nothing is told, but the server logs it."""
    del request
    if isinstance(error, UserError):
        return JSONResponse({"error": str(error)}, error.code if isinstance(error, RefusedError) else 422)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if isinstance(error, ClientDisconnect):  # nobody will read it
        return Response(status_code=400)
    return JSONResponse({"error": "a fault of the program; the terminal where it runs says more"}, 500)


@contextmanager
def server_folder() -> Iterator[Path]:
    """Give a private temporary folder, deleted at the end; what killed servers have left is deleted at the start.

    Raises:
        StorageError: if it cannot be made.
        UserError: if somebody else owns the place where it belongs.
    """
    above = Path(tempfile.gettempdir()) / f"fewshot-demo-{os.getuid()}"
    try:
        above.mkdir(mode=PRIVATE, exist_ok=True)
    except OSError as error:
        raise StorageError.of(above, error) from error
    _require_private(above)
    _delete_leftovers(above)
    folder = above / secrets.token_hex(8)
    # Locked before it is there: another server that starts now takes it for no leftover.
    with exclusive_lock(folder):
        folder.mkdir(mode=PRIVATE)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _require_private(folder: Path) -> None:
    """Refuse a folder that is a link, another user's, or open to others: temporary folders are shared."""
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise UserError(f"{folder}: is not a private folder of yours; remove it, or set TMPDIR to another place")


def _delete_leftovers(above: Path) -> None:
    for folder in above.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            try:
                with exclusive_lock(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            except UserError:  # its server is alive
                continue


# How long requests may go on once the server is stopped, and a connection without one is kept.
LAST_REQUESTS_SECONDS, KEPT_SECONDS = 2, 5


def new_server(app: Starlette) -> uvicorn.Server:
    """Make a server of the page, whose connections are limited in number and time."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=TimedConnection,
            log_level="warning",
            access_log=False,
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEPT_SECONDS,
            timeout_graceful_shutdown=LAST_REQUESTS_SECONDS,
        )
    )


def serve(
    checkpoints: Sequence[Path],
    console: Console,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str = "auto",
    trust: Sequence[str] = (),
) -> None:
    """Serve the page until Ctrl-C or SIGTERM, then delete all that was uploaded.

    Each checkpoint is offered on the page, whose address the console is told. Any host but this computer's own can be
    reached by others, of whom an access token in the address is asked; the port is 0 for any that is free. `trust`
    names the modules that networks may be of.

    Raises:
        UserError: if a checkpoint cannot be read, or the port is taken.
    """
    choices = load_choices(checkpoints, device, trust)
    token = None if is_loopback(host) else secrets.token_urlsafe(32)
    with _listening(host, port) as listener, server_folder() as folder:
        server = new_server(build_app(choices, Sessions(folder, SessionLimits()), host, token))
        with _stopped_by_signals(server):
            _announce(console, host, listener.getsockname()[1], token)
            server.run(sockets=[listener])
    console.print("stopped; all uploads are deleted", highlight=False)


def _announce(console: Console, host: str, port: int, token: str | None) -> None:
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if token is not None:
        address += f"/?{ACCESS}={token}"
        console.print(
            f"warning: {host} can be reached from other computers, by whoever has the whole address below, and without "
            "encryption; leave --host out to serve this one alone",
            highlight=False,
            soft_wrap=True,
        )
    console.print(address, highlight=False, markup=False, soft_wrap=True)
    console.print("research only, not for clinical use; Ctrl-C stops and deletes all uploads", highlight=False)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen at an address; a `UserError` says if there is none such here, or it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()  # now: who reads the address may call at once
        except OSError as error:
            raise UserError(
                f"{host}, port {port}: cannot listen there ({error.strerror}); choose another --port or --host"
            ) from error
        yield listener


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the server and nothing more: what it leaves is still to be tidied up.

    Uvicorn itself hands a signal on once it has stopped, which would end the process at once.
    """

    def stop(number: int, frame: object) -> None:
        del number, frame
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
