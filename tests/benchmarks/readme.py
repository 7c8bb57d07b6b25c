"""`python -m tests.benchmarks.readme` writes the tables of measured speed into README and docs/speed.md.

README shows what something is wanted of, docs/speed.md every figure with its spread; a column is a setting, whose
figures are a file in results/speed.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.io.files import write_text
from episodes.io.yaml_json import read_json
from fewshot.results.tables import Table
from tests.benchmarks.machine import ROOT
from tests.benchmarks.measurements import Measurement, figure, wanted_text

RESULTS = ROOT / "results/speed"
README, DETAILS = ROOT / "README.md", ROOT / "docs/speed.md"
BEGIN, END = "<!-- make speed: begin -->\n", "<!-- make speed: end -->\n"
NUMBERS = {1: "one thread", 2: "two threads"}


@dataclass(frozen=True, slots=True)
class Setting:
    """The figures of one file of results, by key, and what they were measured on."""

    machine: dict[str, Any]
    parts: list[dict[str, Any]]
    measurements: dict[str, Measurement]

    @property
    def name(self) -> str:
        threads = self.machine["threads"]
        name = NUMBERS.get(threads, f"{threads} threads")
        return f"{name}, a processor busy" if self.machine["busy"] else name


def read_settings(folder: Path = RESULTS) -> list[Setting]:
    """Read every file of results, by name."""
    settings = []
    for path in sorted(folder.glob("*.json")):
        results: Any = read_json(path)
        parts = list(results["parts"].values())
        found = [Measurement.read(facts) for part in parts for facts in part["measurements"]]
        settings.append(Setting(results["machine"], parts, {measurement.key: measurement for measurement in found}))
    return settings


def speed_table(settings: list[Setting], *, everything: bool) -> str:
    """Write the figures of which something is wanted as Markdown, or everything with its spread."""
    rows = {key: one for setting in settings for key, one in setting.measurements.items() if everything or one.wanted}
    texts = [
        (row.what, *(_cell(setting.measurements.get(key), spread=everything) for setting in settings), wanted_text(row))
        for key, row in rows.items()
    ]
    table = Table(("what", *(setting.name for setting in settings), "wanted"), texts, words=("what",))
    return table.markdown()


def _cell(measurement: Measurement | None, *, spread: bool) -> str:
    if measurement is None or measurement.value is None:
        return "not measured"
    text = figure(measurement.value, measurement.unit) + (" (not held)" if measurement.holds is False else "")
    return f"{text} ({measurement.spread})" if spread and measurement.spread else text


def machine_list(settings: list[Setting]) -> str:
    """List what the figures were measured on, when and of which code."""
    lines = []
    for setting in settings:
        facts = setting.machine
        processor = f"{facts['processor']}, {facts['cores']} cores ({', '.join(facts['instructions'])})"
        dates = sorted({part["date"][:10] for part in setting.parts})
        commits = dict.fromkeys(part["commit"] for part in setting.parts)
        lines.append(
            f"- {setting.name.capitalize()}: {processor}, {facts['memory_gib']} GiB, torch {facts['torch']},"
            f" {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, commit {', '.join(commits)}\n"
        )
    return "".join(lines)


def replaced(text: str, generated: str) -> str:
    """Put what is generated between the two markers of a text.

    Raises:
        ValueError: if the text does not have them once.
    """
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    found = re.findall(pattern, text, flags=re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"{len(found)} places between {BEGIN.strip()} and {END.strip()}; one was expected")
    return text.replace(found[0], f"{BEGIN}{generated}{END}")


def documents(settings: list[Setting]) -> dict[Path, str]:
    """Write the documents anew with the tables of these figures."""
    short, long = (speed_table(settings, everything=everything) for everything in (False, True))
    return {
        README: replaced(README.read_text(encoding="utf-8"), f"{short}\n{machine_list(settings)}"),
        DETAILS: replaced(DETAILS.read_text(encoding="utf-8"), long),
    }


if __name__ == "__main__":
    for path, text in documents(read_settings()).items():
        write_text(path, text)
