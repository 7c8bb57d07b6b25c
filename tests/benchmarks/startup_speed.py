"""How long `fewshot --help` takes in a fresh process."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.benchmarks.measurements import Measurement, at_most, interleaved, measured

REPEATS = 9


def measure() -> list[Measurement]:
    """How long several starts take, and what their imports take."""
    commands = {"python": [sys.executable, "-c", ""], "module": [sys.executable, "-m", "fewshot", "--help"]}
    script = Path(sys.executable).with_name("fewshot")
    if script.is_file():
        commands["script"] = [str(script), "--help"]
    times = interleaved(*(partial(start, command) for command in commands.values()), repeats=REPEATS)
    whats = {"python": "... of which python alone", "module": "... as python -m fewshot", "script": "fewshot --help"}
    found = {
        name: measured(f"startup.{name}", whats[name], seconds, "s", wanted=None if name == "python" else at_most(0.3))
        for name, seconds in zip(commands, times, strict=True)
    }
    largest = largest_imports(commands["module"])
    imports = measured(
        "startup.import",
        "... of which the largest import",
        [largest[0][1]],
        "s",
        note=", ".join(f"{name} {seconds:.3f} s" for name, seconds in largest),
    )
    return [*(found[name] for name in ("script", "module", "python") if name in found), imports]


def start(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603


def largest_imports(command: list[str], count: int = 3) -> list[tuple[str, float]]:
    """The packages whose import takes most, with the seconds of everything that they import first."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    report = subprocess.run(timed, check=True, capture_output=True, text=True).stderr  # noqa: S603
    rows = [line.split("|") for line in report.splitlines() if line.startswith("import time:")]
    packages = [(int(row[1]), row[2].strip()) for row in rows if row[1].strip().isdigit() and "." not in row[2]]
    return [(name, microseconds / 1e6) for microseconds, name in sorted(packages, reverse=True)[:count]]
