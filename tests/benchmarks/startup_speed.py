"""How long `fewshot --help` takes in a fresh process."""

import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

REPEATS = 9


def measure() -> list[str]:
    """Lines that say the median of several starts, and what their imports take."""
    commands = {"python -m fewshot --help": [sys.executable, "-m", "fewshot", "--help"]}
    script = Path(sys.executable).with_name("fewshot")
    if script.is_file():
        commands["fewshot --help"] = [str(script), "--help"]
    empty = median_seconds([sys.executable, "-c", ""])
    lines = [f"python alone: {empty:.3f} s"]
    for name, command in commands.items():
        lines.append(f"{name}: {median_seconds(command):.3f} s, median of {REPEATS} (under 0.3 s wanted)")
    return [*lines, f"largest imports: {', '.join(largest_imports(commands['python -m fewshot --help']))}"]


def median_seconds(command: list[str]) -> float:
    times = []
    for _ in range(REPEATS + 1):  # the first reads the files from disk
        begin = perf_counter()
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        times.append(perf_counter() - begin)
    return median(times[1:])


def largest_imports(command: list[str], count: int = 3) -> list[str]:
    """The packages whose import takes most, with everything that they import first."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    report = subprocess.run(timed, check=True, capture_output=True, text=True).stderr  # noqa: S603
    rows = [line.split("|") for line in report.splitlines() if line.startswith("import time:")]
    packages = [(int(row[1]), row[2].strip()) for row in rows if row[1].strip().isdigit() and "." not in row[2]]
    return [f"{name} {microseconds / 1e3:.0f} ms" for microseconds, name in sorted(packages, reverse=True)[:count]]
