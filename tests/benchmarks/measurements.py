"""What a measurement says: a figure with its spread, what is wanted of it, and whether that holds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from statistics import median
from time import perf_counter
from typing import Any, Literal

import torch

from fewshot.benchmark.evaluation import STATUS, peak_bytes, start_peak

Seconds = tuple[float, ...]
CPU = torch.device("cpu")
# What a process grows by between two looks at its memory, in bytes.
SLACK = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A bound on a figure, in the figure's unit."""

    direction: Literal["at least", "at most"]
    limit: float

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.direction == "at least" else value <= self.limit


def at_least(limit: float) -> Wanted:
    return Wanted("at least", limit)


def at_most(limit: float) -> Wanted:
    return Wanted("at most", limit)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A figure, the median of several repeats; no value means that it could not be measured here, as the note says.

    `key` tells it from all others of every run, `what` is its line in a table, and `unit` is "x" for a ratio.
    """

    key: str
    what: str
    value: float | None
    unit: str
    low: float | None
    high: float | None
    repeats: int
    wanted: Wanted | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether what is wanted of it holds; None if nothing is, or nothing was measured."""
        return None if self.wanted is None or self.value is None else self.wanted.holds(self.value)

    @property
    def spread(self) -> str:
        """The least and the most of the repeats, where there are several."""
        if self.repeats < 2 or self.low is None or self.high is None:
            return ""
        return f"{figure(self.low, self.unit)} to {figure(self.high, self.unit)}"

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "Measurement":
        """Build one of what `dataclasses.asdict` gives."""
        wanted = facts["wanted"]
        return cls(**{**facts, "wanted": None if wanted is None else Wanted(**wanted)})


def measured(
    key: str, what: str, values: Iterable[float], unit: str, *, wanted: Wanted | None = None, note: str = ""
) -> Measurement:
    """Sum up the repeats of one figure; a figure that is not finite is an error, not a measurement."""
    found = list(values)
    if not found or not all(map(isfinite, found)):
        raise ValueError(f"{key}: measured {found}; finite figures were expected")
    return Measurement(key, what, median(found), unit, min(found), max(found), len(found), wanted, note)


def not_measured(key: str, what: str, why: str, unit: str = "x", *, wanted: Wanted | None = None) -> Measurement:
    return Measurement(key, what, None, unit, None, None, 0, wanted, f"not measured here: {why}")


def interleaved(*works: Callable[[], object], repeats: int, warm: bool = True) -> list[Seconds]:
    """Time works in turn, so that whatever else the machine does hits all of them: seconds (n_works, repeats).

    With `warm`, a first round that fills caches is not counted.
    """
    rounds = [[_seconds(work) for work in works] for _ in range(repeats + warm)][warm:]
    return list(zip(*rounds, strict=True))


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide the seconds of two works round by round."""
    return [first / second for first, second in zip(above, below, strict=True)]


def _seconds(work: Callable[[], object]) -> float:
    begin = perf_counter()
    work()
    return perf_counter() - begin


def bytes_on_top(work: Callable[[], object]) -> int | None:
    """Tell the most memory that a work holds on top of what this process held before it, in bytes.

    None where the system does not tell: it has to show a high-water mark that is no higher than what is held at the
    start. Where it may not be set back, an earlier peak hides the work's own.
    """
    start_peak(CPU)
    held, mark = resident_bytes(), peak_bytes(CPU)
    work()
    highest = peak_bytes(CPU)
    if held is None or mark is None or highest is None or mark > held + SLACK or highest <= held + SLACK:
        return None
    return highest - held


def resident_bytes(kind: str = "VmRSS") -> int | None:
    """Tell what this process holds in memory: `VmRSS` is all of it, `RssAnon` what is no file's."""
    if not STATUS.exists():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(fields[kind].split()[0]) * 1024 if kind in fields else None


def figure(value: float, unit: str = "") -> str:
    """Write a figure with three digits.

    >>> [figure(1.1234, "x"), figure(1583.2, "x"), figure(14.96, "%"), figure(8.4e-8), figure(0), figure(0.0213, "s")]
    ['1.12x', '1,580x', '15.0 %', '8e-8', '0', '0.021 s']
    """
    size = abs(value)
    if value == round(value, 1) and size < 1000:
        text = f"{value:g}"
    elif size < 1e-3:
        text = f"{value:.0e}".replace("e-0", "e-")
    elif size < 0.1:
        text = f"{value:.3f}"
    else:
        rounded = float(f"{value:.3g}")
        text = f"{rounded:,.{max(0, 2 - floor(log10(abs(rounded))))}f}"
    return text + unit if unit == "x" or not unit else f"{text} {unit}"


def wanted_text(measurement: Measurement) -> str:
    """Write what is wanted of a figure, nothing if nothing is."""
    wanted = measurement.wanted
    return "" if wanted is None else f"{wanted.direction} {figure(wanted.limit, measurement.unit)}"
