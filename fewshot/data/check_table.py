"""What a check of a dataset found, in the terminal."""

from itertools import accumulate
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from episodes.checks import KINDS, CheckReport, Kind
from fewshot.terminal.console import output_console, print_line

# A mark as well as a colour, which is lost where output is piped.
_LOSES = "!"
_LOSES_NOTE = f"{_LOSES} other commands stop here until it is mended"
_EXAMPLES = 30  # characters


def print_check(report: CheckReport, *, details: bool = False) -> None:
    """Print what is in a dataset beside what its paper says, then a table of what was found.

    Args:
        report: what was found.
        details: whether to list every finding below the table.
    """
    console = output_console()
    print_line(console, f"{report.dataset}: {report.root}")
    console.print(counts_table(report))
    print_line(console, _patients_sentence(report))
    if not report.findings:
        print_line(console, "Nothing was found wrong.")
        return
    console.print()
    console.print(kinds_table(report))
    if not details:
        print_line(console, "Every finding: with --details; as JSON: with --json, or --out FILE.")
        return
    for kind in report.kinds:
        _print_details(console, report, kind)


def counts_table(report: CheckReport) -> Table:
    """A rich table of images by label, and of patients where they are named: here, published, and the difference."""
    table = Table()
    columns = ["", "images", "published", "difference"]
    columns += ["patients", "published", "difference"] if report.patients else []
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    table.add_row("all", *_counts(report, "images"), *(_counts(report, "patients") if report.patients else ()))
    table.add_section()
    for label in [name for name in report.counts if name not in ("images", "patients")]:
        if report.counts[label] or report.published.get(label):
            patients = sum(label in labels for labels in report.patients.values())
            table.add_row(label, *_counts(report, label), *((str(patients), "-", "-") if report.patients else ()))
    return table


def _counts(report: CheckReport, name: str) -> tuple[str, str, str]:
    published, difference = report.published.get(name), report.difference(name)
    if published is None or difference is None:
        return str(report.counts[name]), "-", "-"
    return str(report.counts[name]), str(published), f"{difference:+d}" if difference else "0"


def _patients_sentence(report: CheckReport) -> str:
    if not report.patients:
        return "It names no patients: each image counts as one, near-duplicates together."
    images = [sum(labels.values()) for labels in report.patients.values()]
    return f"Each patient has {min(images)} to {max(images)} images, the median {median(images):g}."


def kinds_table(report: CheckReport) -> Table:
    """A rich table of the kinds of findings: how many, what is done about them, and the first ones."""
    table = Table(caption=_LOSES_NOTE if report.loses_data else None, caption_justify="left")
    table.add_column("found", no_wrap=True)
    table.add_column("how many", justify="right")
    table.add_column("what is done")
    table.add_column("first")
    kinds = list(report.kinds)
    for kind, following in zip(kinds, [*kinds[1:], None], strict=True):
        loses = KINDS[kind].loses_data
        table.add_row(
            f"{kind} {_LOSES}" if loses else kind,
            _how_many(report, kind),
            KINDS[kind].done,
            escape(_examples(report, kind)),
            style="bold red" if loses else None,
            end_section=loses and following is not None and not KINDS[following].loses_data,
        )
    return table


def _how_many(report: CheckReport, kind: Kind) -> str:
    """How many findings; and of how many images, where one is of several."""
    findings, subjects = report.kinds[kind], len(report.subjects(kind))
    return str(findings) if subjects <= findings else f"{findings} ({subjects} images)"


def _examples(report: CheckReport, kind: Kind) -> str:
    """The first findings of a kind, as many as fit into a line; without their dataset, which is said once."""
    findings = report.of_kind(kind)
    names = [" = ".join(one.removeprefix(f"{report.dataset}/") for one in finding.subjects) for finding in findings]
    lengths = accumulate(len(f"{name}, ") for name in names)
    shown = [name for name, length in zip(names, lengths, strict=True) if length <= _EXAMPLES] or names[:1]
    return ", ".join(shown if len(shown) == len(names) else [*shown, "..."])


def _print_details(console: Console, report: CheckReport, kind: Kind) -> None:
    console.print(f"\n{kind}: {report.kinds[kind]}", style="bold", highlight=False)
    for finding in report.of_kind(kind):
        subjects = ", ".join(finding.subjects)
        is_said = finding.detail.startswith(subjects)
        print_line(console, f"  {finding.detail}" if is_said else f"  {subjects}: {finding.detail}")
