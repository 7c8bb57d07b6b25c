"""The command line. Heavy imports stand inside the commands, so that `fewshot --help` answers at once."""

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo

from episodes.errors import OUT_OF_ROOM, StorageError, UserError
from episodes.names import printable
from fewshot.cli import data, masks, models  # their commands hang on `app` once they are imported
from fewshot.cli.arguments import app, data_app
from fewshot.threads import settle_threads

__all__ = ["app", "data", "main", "masks", "models"]

# The order in which --help lists them.
COMMANDS = (
    *("benchmark", "report", "demo", "export", "train", "finetune", "evaluate", "predict", "select"),
    *("check", "generate", "init", "prepare", "show", "split", "unpack"),
)


def _place(command: CommandInfo) -> int:
    return COMMANDS.index(command.callback.__name__) if command.callback else len(COMMANDS)


app.registered_commands.sort(key=_place)
data_app.registered_commands.sort(key=_place)

INTERRUPTED = 130  # what typer makes of Ctrl-C, and shells expect


def main() -> None:
    """Run the command line: status 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    # --debug is good anywhere on the line, before or after the command.
    debug = "--debug" in sys.argv
    settle_threads()
    _replace_what_cannot_be_shown()
    try:
        with _stoppable():
            app(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _complain("interrupted; the same command goes on from here")
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError):
            _complain(_describe(error))
        elif isinstance(error, UserError):
            _complain(str(error))
        else:
            _complain(f"{type(error).__name__}: {error} (a fault of the program; --debug shows where)")
        sys.exit(error.status if isinstance(error, UserError) else 1)
    finally:
        _warn_of_names_in_pictures()


def _warn_of_names_in_pictures() -> None:
    """Say once, with their count, that files were read whose pictures have names written into them."""
    header = sys.modules.get("episodes.images.dicom_header")  # where nothing imported it, nothing was read
    if header is not None and header.SHOWING_NAMES:
        count = len(header.SHOWING_NAMES)
        _complain(
            f"warning: names are written into the pictures of {count} DICOM file{'s'[: count - 1]}"
            " (BurnedInAnnotation: YES): cut them out before you pass on images, or what shows them"
        )
        header.SHOWING_NAMES.clear()


def _describe(error: OSError) -> str:
    """Say what the system refused, as far as it says of which file; of none, it is where the output goes."""
    if error.errno is None:
        return str(error)
    if error.filename is not None and error.errno not in OUT_OF_ROOM:
        return f"{error.filename}: {error.strerror}; see that it is there, and that you may read and write it"
    return str(StorageError.of(Path(error.filename or "the output"), error))


def _replace_what_cannot_be_shown() -> None:
    """Let streams that are not in UTF-8 show a question mark for what they lack, instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            shows_bytes = stream.errors == "surrogateescape" and stream.encoding.lower() == "utf-8"
            if stream.errors != "backslashreplace" and not shows_bytes:
                stream.reconfigure(errors="replace")


@contextmanager
def _stoppable() -> Iterator[None]:
    """Take a scheduler's request to end (SIGTERM) as Ctrl-C for as long as the block runs."""
    if threading.current_thread() is not threading.main_thread():  # signals are not for others
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(message: str) -> None:
    for line in message.splitlines():
        sys.stderr.write(f"fewshot: {printable(line)}\n")


@app.callback()
def _options_of_every_command(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    del debug  # taken from the line by `main`; it stands here for --help
