"""Files written whole or not at all, and text files that are read with the records they refer to only."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from episodes.errors import ManifestError
from episodes.records import Record, records_hash


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the name when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in place of what was there."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_lines(path: Path, lines: Iterable[str], *, overwrite: bool) -> None:
    """Write a text file under a temporary name and rename it, making its folder where needed.

    Raises:
        ManifestError: if the file exists and must not be overwritten, or its folder cannot be written to.
    """
    if path.exists() and not overwrite:
        raise ManifestError(f"{path}: exists already; choose another name, or replace it with --overwrite")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        partial.replace(path)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        if partial.exists():  # only after a failure
            partial.unlink()


def read_text(path: Path, kind: str) -> str:
    """Read a text file.

    Args:
        path: the file.
        kind: what it should be, for the message, such as `split`.

    Raises:
        ManifestError: if there is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: there is no such file; check the path of the {kind}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read as a {kind} ({error})") from error


def require_same_records(path: Path, written_for: object, ids: Iterable[str], records: Sequence[Record]) -> None:
    """Check that a file belongs to the records at hand.

    Args:
        path: the file, for the message.
        written_for: the hash of the records it was written for.
        ids: the record ids that it names.
        records: those at hand.

    Raises:
        ManifestError: if the hashes differ or an id is unknown; it names the first missing records.
    """
    known = {record.id for record in records}
    missing = sorted(set(ids) - known)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ManifestError(
            f"{path}: not all of its records are among the {len(known)} at hand, which lack "
            f"{', '.join(missing[:3])}{more}; read it with the datasets it was written for"
        )
    if written_for != records_hash(records):
        raise ManifestError(
            f"{path}: was written for other records: since then some were added or removed, or changed their "
            "label or patient; write it again, or read it with the datasets it was written for"
        )
