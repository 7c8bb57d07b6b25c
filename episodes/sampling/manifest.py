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
from episodes.io.files import read_text, require_free, write_text
from episodes.io.yaml_json import parse_json
from episodes.records import Record, records_hash
from episodes.sampling.draws import SupportDraw
from episodes.sampling.sampler import EpisodeSpec

VERSION = 1

Entry = TypeVar("Entry", EpisodeSpec, SupportDraw)


@dataclass(frozen=True, slots=True)
class Manifest(Generic[Entry]):
    """A kind of manifest: its entries' name, their JSON form, and the ids in them.

    The first line is a header: `{"format": "fewshot-episodes", "version": 1, "records": <hash>, "n_episodes": n}` and
    parameters, JSON values that say how the entries came about. One line per entry follows.
    """

    entries: str
    adapter: TypeAdapter[Entry]
    ids: Callable[[Entry], Iterable[str]]

    def write(
        self,
        path: Path,
        entries: Iterable[Entry],
        records: Sequence[Record],
        *,
        overwrite: bool = False,
        **parameters: object,
    ) -> None:
        """Write entries over records, so that others can be measured on the very same ones.

        The parameters are JSON values, such as `**sampler.parameters`. The file appears whole or not at all; its folder
        is made where needed. Errors are those of `require_free`.
        """
        require_free(path, overwrite=overwrite)
        lines: list[str] = [self.adapter.dump_json(entry).decode() for entry in entries]
        header: dict[str, object] = {"format": f"fewshot-{self.entries}", "version": VERSION}
        header |= {"records": records_hash(records), f"n_{self.entries}": len(lines), **parameters}
        write_text(path, "".join(f"{line}\n" for line in (json.dumps(header), *lines)))

    def read(self, path: Path, records: Sequence[Record]) -> list[Entry]:
        """Read entries back; the records at hand must be those that they were made of, in any order.

        Raises:
            ManifestError: if the file is missing, not a manifest of a known version, truncated, damaged (the message
                gives the line), or belongs to other records (it names the missing ones).
        """
        # Not splitlines, which also splits at rarer line separators that JSON strings may hold.
        text = read_text(path, f"manifest of {self.entries}")
        first, *lines = text.removesuffix("\n").split("\n")
        header = self._header(path, first)
        promised = header.get(f"n_{self.entries}")
        if promised != len(lines):
            raise ManifestError(
                f"{path}: holds {len(lines)} {self.entries}, its first line promises {reprlib.repr(promised)};"
                " write it again"
            )
        entries = []
        for number, line in enumerate(lines, start=2):
            try:
                entries.append(self.adapter.validate_json(line, strict=True))
            except ValidationError as error:
                raise ManifestError(
                    f"{path}, line {number}: not one of the {self.entries}; the file is damaged, write it again"
                ) from error
        named = {record_id for entry in entries for record_id in self.ids(entry)}
        require_same_records(path, header.get("records"), named, records)
        return entries

    def _header(self, path: Path, line: str) -> Mapping[str, object]:
        try:
            header = parse_json(line)
        except ValueError:
            header = None
        expected = f"fewshot-{self.entries}"
        if not isinstance(header, dict) or header.get("format") != expected:
            raise ManifestError(
                f'{path}: not a manifest of {self.entries}: its first line has no "format": "{expected}"'
            )
        if header.get("version") != VERSION:
            raise ManifestError(
                f"{path}: its version is {reprlib.repr(header.get('version'))} and this program reads version "
                f"{VERSION}; write it again, or update the program"
            )
        return header


EPISODES = Manifest("episodes", TypeAdapter(EpisodeSpec), lambda spec: chain(*spec.support, spec.query))
DRAWS = Manifest("draws", TypeAdapter(SupportDraw), lambda draw: chain(draw.support, draw.queries))


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
