"""A dataset shown to its user: the findings of a check as tables, its images as a contact sheet."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median

import rich.table
from rich.console import Console

from episodes.curation.findings import KINDS, CheckReport, Kind
from episodes.io.files import files_written_whole, require_free
from episodes.records import Label, Record
from episodes.sampling.splits import read_split
from episodes.sampling.streams import Stream
from episodes.storage.store import Store
from fewshot.plots.datasets import LABEL_COLOURS, classes_figure, splits_figure
from fewshot.plots.images import Tile, TileGroup, contact_sheet
from fewshot.results.tables import Table
from fewshot.terminal import output_console, print_line

_MARK = " !"  # as well as a colour, which is lost where output is piped
_MARK_NOTE = "! other commands stop here until it is mended"
_EXAMPLES = 30  # characters


def print_check(report: CheckReport, *, details: bool = False) -> None:
    """Print what is in a dataset beside what its paper says, then a table of what was found; `details` lists each."""
    console = output_console()
    print_line(console, f"{report.dataset}: {report.root}")
    console.print(counts_table(report))
    print_line(console, _patients_sentence(report))
    for line in report.grey_scales:
        print_line(console, f"Grey scale: {line}.")
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


def counts_table(report: CheckReport) -> rich.table.Table:
    """Make a table of images by label, and of patients where they are named: here, published, and the difference."""
    compared = ("published", "difference")
    headings = ["", "images", *compared, *(("patients", *compared) if report.patients else ())]
    texts = [["all", *_counts(report, "images"), *(_counts(report, "patients") if report.patients else ())]]
    for label in [name for name in report.counts if name not in ("images", "patients")]:
        if report.counts[label] or report.published.get(label):
            patients = sum(label in labels for labels in report.patients.values())
            texts.append([label, *_counts(report, label), *((str(patients), "-", "-") if report.patients else ())])
    return Table(headings, texts, words=("",), sections=(1,)).terminal()


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


def kinds_table(report: CheckReport) -> rich.table.Table:
    """Make a table of the kinds of findings: how many, what is done, and the first ones; what loses data is marked."""
    kinds = list(report.kinds)
    loses = [KINDS[kind].loses_data for kind in kinds]
    table = Table(
        ("found", "how many", "what is done", "first"),
        [[kind, _how_many(report, kind), KINDS[kind].done, _examples(report, kind)] for kind in kinds],
        words=("found", "what is done", "first"),
        best=[place for place, marked in enumerate(loses) if marked],
        sections=[place for place in range(1, len(kinds)) if loses[place - 1] and not loses[place]],
    )
    note = _MARK_NOTE if report.loses_data else None
    return table.terminal(caption=note, mark=_MARK, style="bold red", unbroken=("found",))


def _how_many(report: CheckReport, kind: Kind) -> str:
    """Count findings, and their images where one finding is of several."""
    findings, subjects = report.kinds[kind], len(report.subjects(kind))
    return str(findings) if subjects <= findings else f"{findings} ({subjects} images)"


def _examples(report: CheckReport, kind: Kind) -> str:
    """Name the first findings of a kind, as many as fit into a line; without their dataset, which is said once."""
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


SHEET, CLASSES, SPLITS = "contact_sheet.png", "classes.png", "splits.png"


def choose_images(records: Sequence[Record], count: int, seed: int = 0) -> dict[Label, list[Record]]:
    """Choose images of a dataset to look at: of each class as many as of the others, if it has them, of many patients.

    Returns:
        Class -> its images by id, in the order in which figures show classes; fewer in all than `count` where there
        are not as many.

    >>> records = [Record("d", Path(f"{n}.png"), (), "normal" if n else "benign", f"{n // 3}") for n in range(9)]
    >>> {label: [record.image.stem for record in chosen] for label, chosen in choose_images(records, 4).items()}
    {'benign': ['0'], 'normal': ['1', '4', '6']}
    """
    stream = Stream(seed, 0)
    ordered = sorted(records, key=lambda one: one.id)
    waiting = {label: _by_turns([one for one in ordered if one.label == label], stream) for label in LABEL_COLOURS}
    shown: dict[Label, int] = dict.fromkeys(waiting, 0)
    for _ in range(min(count, len(records))):
        open_classes = [label for label in waiting if shown[label] < len(waiting[label])]
        shown[min(open_classes, key=lambda label: shown[label])] += 1
    return {label: sorted(waiting[label][:number], key=_by_number) for label, number in shown.items() if number}


def _by_number(record: Record) -> list[tuple[str, int]]:
    """Order by name as people do: `benign (9)` before `benign (17)`."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", record.id)]


def _by_turns(records: Sequence[Record], stream: Stream) -> list[Record]:
    """Shuffle records, but so that a patient's second image comes after everybody's first."""
    turn: dict[str, int] = defaultdict(int)
    turns: list[tuple[int, Record]] = []
    for record in stream.shuffled(records):
        turns.append((turn[record.patient_id], record))
        turn[record.patient_id] += 1
    return [record for _, record in sorted(turns, key=lambda pair: pair[0])]


def figure_files(folder: Path, *, with_split: bool) -> list[Path]:
    """List the files that `show_dataset` draws."""
    return [folder / name for name in (SHEET, CLASSES, *([SPLITS] if with_split else []))]


def show_dataset(
    store: Store, folder: Path, *, count: int = 48, seed: int = 0, split: Path | None = None, overwrite: bool = False
) -> list[Path]:
    """Draw a contact sheet of so many images, which the seed chooses, the classes, and with a split its parts.

    Returns:
        The files written, all of them or none.

    Raises:
        UserError: if a file exists and is not to be replaced, or the split is of other records.
        StorageError: if they cannot be written.
    """
    files = figure_files(folder, with_split=split is not None)
    require_free(*files, overwrite=overwrite)
    found = None if split is None else read_split(split, store.records)
    dataset = store.records[0].dataset
    with files_written_whole(*files) as (sheet, classes, *splits):
        contact_sheet(sheet, _groups(store, count, seed), title=dataset)
        classes_figure(classes, store.records, title=dataset)
        if found is not None and split is not None:
            splits_figure(splits[0], store.records, found.parts, title=f"{dataset}, {split.name}")
    return files


def _groups(store: Store, count: int, seed: int) -> list[TileGroup]:
    rows = {record.id: row for row, record in enumerate(store.records)}
    totals = Counter(record.label for record in store.records)

    def tile(record: Record) -> Tile:
        row = rows[record.id]
        height, width = store.original_sizes[row]
        return Tile(record.id.partition("/")[2], store.images[row], store.label_maps[row], height / width)

    chosen = choose_images(store.records, count, seed)
    return [TileGroup(label, list(map(tile, records)), totals[label]) for label, records in chosen.items()]
