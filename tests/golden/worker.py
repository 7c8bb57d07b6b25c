"""A process that has loaded the slow libraries once and runs each command in a fork of itself.

It is run by path, by the interpreter of the checkout that is recorded, reads a JSON list `[words, out, err]` a line and
answers each with the exit status. Of the project it loads nothing before it forks: each command starts as `python -m
fewshot` does.
"""

import gc
import json
import os
import runpy
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

SLOW = (
    *("torch", "torch._dynamo", "torchvision.models", "timm", "scipy.stats", "scipy.ndimage", "sklearn.metrics"),
    *("pandas", "pyarrow.parquet", "pydantic", "typer", "rich.progress", "matplotlib.figure", "PIL.Image", "yaml"),
)


def main() -> None:
    """Answer requests until there are no more."""
    del sys.path[0]  # where this file lies
    for name in SLOW:
        with suppress(ImportError):
            import_module(name)
    gc.freeze()  # or every collection in a child would copy the memory that it shares
    for line in sys.stdin:
        words, out, err = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(words, out, err)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, flush=True)


def _run(words: list[str], out: str, err: str) -> NoReturn:
    """Become the command, as far as its arguments and streams go."""
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["fewshot", *words]
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    runpy.run_module("fewshot", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main()
