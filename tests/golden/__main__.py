"""A golden record of what the command line does, and its comparison between two revisions.

A refactoring must leave the record equal. Record it with the interpreter of a checkout of the base revision (`make
setup` there makes it), then of the working tree, and compare; each takes some ten minutes on one core:

    git worktree add ../base main && make -C ../base setup
    .venv/bin/python -m tests.golden record /tmp/base.json --python ../base/.venv/bin/python
    .venv/bin/python -m tests.golden record /tmp/mine.json
    .venv/bin/python -m tests.golden compare /tmp/base.json /tmp/mine.json

Nothing of the project is imported here: the commands run in processes of their own, in a temporary folder, with the
inputs of `inputs.yaml`, and what they print and write is digested. Every step is named, and so is every number and text
that can be read: `compare` says which became what. Digests depend on the processor and on library versions, so none are
kept in the repository; make both records on one machine, in one environment of dependencies.

Left out are times, memory, versions and commits; the bytes of ONNX files, which name places in the source (what they
compute is there); `cells/`, from which an interrupted benchmark goes on; what needs a network or an account (ImageNet
weights, wandb); and the page of `fewshot demo`.
"""

import argparse
import difflib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.golden.digests import Entries
from tests.golden.pipeline import record

MISSING = object()


def main() -> int:
    """Run what the command line asks for and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="run everything and write its digests")
    recording.add_argument("out", type=Path)
    recording.add_argument("--python", default=sys.executable, help="the interpreter of the checkout to run")
    recording.add_argument(
        "--keep", type=Path, help="an empty folder to work in, which stays; a temporary one if not given"
    )
    comparing = commands.add_parser("compare", help="print every difference between two records")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    given = parser.parse_args()
    if given.command == "compare":
        return compare(json.loads(given.old.read_text()), json.loads(given.new.read_text()))
    # Made absolute, but not resolved: the interpreter of a virtual environment is a link.
    python = str(Path(given.python).absolute())
    if given.keep:
        given.keep.mkdir(parents=True)
        found = record(given.keep.resolve(), python, _say)
    else:
        with tempfile.TemporaryDirectory(prefix="golden-") as folder:
            found = record(Path(folder).resolve(), python, _say)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{given.out}: {len(found)} entries")
    return 0


def compare(old: Entries, new: Entries) -> int:
    """Print every entry that differs, and return 1 if there is any."""
    differing = [key for key in dict.fromkeys((*old, *new)) if not _same(old.get(key, MISSING), new.get(key, MISSING))]
    for key in differing:
        print("\n".join(_difference(key, old.get(key, MISSING), new.get(key, MISSING))))
    if differing:
        print(f"{len(differing)} of {len(old.keys() | new.keys())} entries differ")
        return 1
    print(f"all {len(old)} entries agree")
    return 0


def _same(old: Any, new: Any) -> bool:
    """Hold values equal that are written alike: 1 is not 1.0, and NaN is NaN."""
    return repr(old) == repr(new)


def _difference(key: str, old: Any, new: Any) -> list[str]:
    """Lines that show a difference; of texts, the lines that differ."""
    if old is MISSING:
        return [f"{key}: new, {new!r:.200}"]
    if new is MISSING:
        return [f"{key}: gone, was {old!r:.200}"]
    if "\n" in f"{old}{new}":
        lines = difflib.unified_diff(str(old).splitlines(), str(new).splitlines(), "old", "new", n=0, lineterm="")
        return [f"{key}:", *(f"  {line}" for line in lines)]
    return [f"{key}: {old!r} became {new!r}"]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
