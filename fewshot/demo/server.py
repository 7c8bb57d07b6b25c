"""Run the page's server until it is stopped."""

import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from rich.console import Console

from episodes.errors import UserError
from fewshot.demo.app import build_app
from fewshot.demo.choices import load_choices
from fewshot.demo.guard import is_loopback
from fewshot.demo.limits import Limits
from fewshot.demo.sessions import Sessions, server_folder

# How long requests may go on once the server is stopped.
LAST_REQUESTS_SECONDS = 2


def serve(
    checkpoints: Sequence[Path], console: Console, *, host: str = "127.0.0.1", port: int = 7860, device: str = "auto"
) -> None:
    """Serve the page until Ctrl-C or SIGTERM, then delete all that was uploaded.

    Args:
        checkpoints: what `fewshot train` wrote; each is offered on the page.
        console: told the page's address.
        host: name or address to listen at; any but this computer's own can be reached by others.
        port: 0 for any that is free.
        device: where to compute.

    Raises:
        UserError: if a checkpoint cannot be read, or the port is taken.
    """
    choices = load_choices(checkpoints, device)
    with _listening(host, port) as listener, server_folder() as folder:
        server = uvicorn.Server(
            uvicorn.Config(
                build_app(choices, Sessions(folder, Limits()), host),
                log_level="warning",
                access_log=False,
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=LAST_REQUESTS_SECONDS,
            )
        )
        with _stopped_by_signals(server):
            _announce(console, host, listener.getsockname()[1])
            server.run(sockets=[listener])
    console.print("stopped; all uploads are deleted", highlight=False)


def _announce(console: Console, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    if not is_loopback(host):
        console.print(
            f"warning: {host} can be reached from other computers, without a password or encryption; "
            "leave --host out to serve this one alone",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"http://{shown}:{port}", highlight=False, markup=False)
    console.print("research only, not for clinical use; Ctrl-C stops and deletes all uploads", highlight=False)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at an address.

    Raises:
        UserError: if there is no such address here, or it is taken.
    """
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
