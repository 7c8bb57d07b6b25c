"""Episodes and support draws on disk: JSON lines, tied to the records that they refer to."""

import json
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from episodes.errors import ManifestError
from episodes.io.files import read_text, write_lines
from episodes.io.yaml_json import parse_json
from episodes.records import Record, records_hash
from episodes.sampling.draws import SupportDraw
from episodes.sampling.sampler import EpisodeSpec

VERSION = 1

Entry = TypeVar("Entry", EpisodeSpec, SupportDraw)


@dataclass(frozen=True, slots=True)
class _Format(Generic[Entry]):
    """A kind of manifest: its entries' name, their JSON form, and the ids in them."""

    entries: str
    adapter: TypeAdapter[Entry]
    ids: Callable[[Entry], Iterable[str]]


_EPISODES = _Format("episodes", TypeAdapter(EpisodeSpec), lambda spec: chain(*spec.support, spec.query))
_DRAWS = _Format("draws", TypeAdapter(SupportDraw), lambda draw: chain(draw.support, draw.queries))


def write_manifest(
    path: Path,
    specs: Iterable[EpisodeSpec],
    records: Sequence[Record],
    *,
    overwrite: bool = False,
    **parameters: object,
) -> None:
    """Write episodes over records, so that others can be measured on the very same ones.

    The first line is a header: `{"format": "fewshot-episodes", "version": 1, "records": <hash>, "n_episodes": n}` and
    the parameters, JSON values that say how the episodes were sampled (`**sampler.parameters`). One line per episode
    follows. The file appears whole or not at all; its folder is made where needed.

    Raises:
        ManifestError: if the file exists and `overwrite` is not set, or it cannot be written.
    """
    _write(path, _EPISODES, list(specs), records, parameters, overwrite=overwrite)


def read_manifest(path: Path, records: Sequence[Record]) -> list[EpisodeSpec]:
    """Read episodes back; the records at hand must be those that they were sampled from, in any order.

    Raises:
        ManifestError: if the file is missing, not a manifest of a known version, truncated, damaged (the message gives
            the line), or belongs to other records (it names the missing ones).
    """
    return _read(path, _EPISODES, records)


def write_draws(
    path: Path,
    draws: Iterable[SupportDraw],
    records: Sequence[Record],
    *,
    overwrite: bool = False,
    **parameters: object,
) -> None:
    """Write support draws as `write_manifest` does episodes, as format `fewshot-draws` with `n_draws`."""
    _write(path, _DRAWS, list(draws), records, parameters, overwrite=overwrite)


def read_draws(path: Path, records: Sequence[Record]) -> list[SupportDraw]:
    """Read support draws back; the errors are those of `read_manifest`."""
    return _read(path, _DRAWS, records)


def _write(
    path: Path,
    form: _Format[Entry],
    entries: Sequence[Entry],
    records: Sequence[Record],
    parameters: Mapping[str, object],
    *,
    overwrite: bool,
) -> None:
    header: dict[str, object] = {"format": f"fewshot-{form.entries}", "version": VERSION}
    header |= {"records": records_hash(records), f"n_{form.entries}": len(entries), **parameters}
    lines = (form.adapter.dump_json(entry).decode() for entry in entries)
    write_lines(path, chain([json.dumps(header)], lines), overwrite=overwrite)


def _read(path: Path, form: _Format[Entry], records: Sequence[Record]) -> list[Entry]:
    # Not splitlines, which also splits at rarer line separators that JSON strings may hold.
    text = read_text(path, f"manifest of {form.entries}")
    first, *lines = text.removesuffix("\n").split("\n")
    header = _header(path, form.entries, first)
    promised = header.get(f"n_{form.entries}")
    if promised != len(lines):
        raise ManifestError(
            f"{path}: holds {len(lines)} {form.entries}, its first line promises {reprlib.repr(promised)};"
            " write it again"
        )
    entries = []
    for number, line in enumerate(lines, start=2):
        try:
            entries.append(form.adapter.validate_json(line, strict=True))
        except ValidationError as error:
            raise ManifestError(
                f"{path}, line {number}: not one of the {form.entries}; the file is damaged, write it again"
            ) from error
    named = {record_id for entry in entries for record_id in form.ids(entry)}
    require_same_records(path, header.get("records"), named, records)
    return entries


def _header(path: Path, entries: str, line: str) -> Mapping[str, object]:
    try:
        header = parse_json(line)
    except ValueError:
        header = None
    expected = f"fewshot-{entries}"
    if not isinstance(header, dict) or header.get("format") != expected:
        raise ManifestError(f'{path}: not a manifest of {entries}: its first line has no "format": "{expected}"')
    if header.get("version") != VERSION:
        raise ManifestError(
            f"{path}: its version is {reprlib.repr(header.get('version'))} and this program reads version {VERSION}; "
            "write it again, or update the program"
        )
    return header


def require_same_records(path: Path, written_for: object, ids: Iterable[str], records: Sequence[Record]) -> None:
    """Check that a file, which holds a hash of records and ids of some, was written for the records at hand.

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
