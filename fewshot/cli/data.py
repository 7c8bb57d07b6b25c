"""Commands about data: data check, show, prepare, split, init, unpack, generate; episodes sample."""

import json
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from episodes.errors import DatasetError, UserError
from episodes.names import printable
from fewshot.cli.arguments import (
    Cache,
    ConfigFile,
    Corrections,
    Curated,
    Dataset,
    DatasetName,
    Doppler,
    Duplicates,
    InvertMasks,
    Overrides,
    Root,
    data_app,
    episodes_app,
    found_by,
    new_reporter,
)

if TYPE_CHECKING:
    from episodes.storage.store import Store

SHOWN = 10  # images of each reason


@data_app.command(epilog="Example: fewshot data check data/Dataset_BUSI_with_GT --dataset busi")
def check(
    root: Root,
    dataset: Dataset,
    details: Annotated[bool, typer.Option("--details", help="List every finding below the table.")] = False,
    invert_masks: InvertMasks = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything as JSON to a file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 if there are images that cannot be used.")
    ] = False,
) -> None:
    """Read every file of a dataset and list all that looks wrong.

    However much is found, the exit status is 0, unless --strict is given.
    """
    from episodes.curation.check import check_dataset
    from episodes.io.files import require_free, write_text
    from fewshot.data.showing import print_check

    if out:
        require_free(out, overwrite=overwrite)
    reporter = new_reporter()
    with reporter.step(f"check {dataset}") as progress:
        report = check_dataset(dataset, root, progress=progress, invert_masks=invert_masks)
    text = json.dumps(report.as_json(), indent=1) + "\n"
    if out:
        write_text(out, text)
    if as_json:
        sys.stdout.write(text)
    else:
        print_check(report, details=details)
    if strict and report.loses_data:
        raise typer.Exit(1)


@data_app.command(epilog="Example: fewshot data show data/BUS-UCLM --dataset bus_uclm --out figures/bus_uclm")
def show(
    root: Root,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The folder to write the figures to.")],
    count: Annotated[int, typer.Option(min=1, max=400, help="Images on the contact sheet.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Another seed chooses other images.")] = 0,
    split: Annotated[Path | None, typer.Option(metavar="FILE", help="A split of it, to draw as well.")] = None,
    name: DatasetName = None,
    duplicates: Duplicates = "group",
    doppler: Doppler = "keep",
    curated: Curated = None,
    corrections: Corrections = None,
    invert_masks: InvertMasks = False,
    cache: Cache = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing figures.")] = False,
) -> None:
    """Draw a dataset: images of each class with their lesions outlined, and how many there are.

    Lesions are outlined green where they are benign and red where malignant, as decoded for training.
    """
    from episodes.io.files import require_free
    from fewshot.data.showing import figure_files, show_dataset
    from fewshot.stores import open_dataset

    require_free(*figure_files(out, with_split=split is not None), overwrite=overwrite)
    policy = {"duplicates": duplicates, "doppler": doppler, "curated": curated, "corrections": corrections}
    facts = {"reader": dataset, "root": root, "invert": invert_masks, "curation": policy}
    reporter = new_reporter()
    store = open_dataset(name, facts, reporter, "data show", cache=cache)
    with reporter.step("draw"):
        files = show_dataset(store, out, count=count, seed=seed, split=split, overwrite=overwrite)
    sys.stdout.writelines(f"{path}\n" for path in files)


@data_app.command(epilog="Example: fewshot data prepare data/BUS-UCLM --dataset bus_uclm --doppler drop")
def prepare(
    root: Root,
    dataset: Dataset,
    size: Annotated[int, typer.Option(min=32, help="Working size: height and width in pixels.")] = 256,
    name: DatasetName = None,
    duplicates: Duplicates = "group",
    doppler: Doppler = "keep",
    curated: Curated = None,
    corrections: Corrections = None,
    invert_masks: InvertMasks = False,
    cache: Cache = None,
) -> None:
    """Decode a dataset once, so that everything after it reads memory-mapped arrays, and say what is left out and why.

    Where it is stopped, the same command goes on from there; a store that was damaged since is made anew.
    """
    from fewshot.stores import open_dataset

    policy = {"duplicates": duplicates, "doppler": doppler, "curated": curated, "corrections": corrections}
    facts = {"reader": dataset, "root": root, "invert": invert_masks, "curation": policy}
    reporter = new_reporter()
    store = open_dataset(name, facts, reporter, "data prepare", check_pixels=True, image_size=size, cache=cache)
    sys.stdout.write("".join(f"{line}\n" for line in describe_dropped(store)))
    sys.stdout.write(f"{store.folder}: {len(store.records)} images\n")


def describe_dropped(store: "Store") -> list[str]:
    """Describe which images were left out and why, the first few of each reason by name, line by line."""
    from episodes.curation.policy import count_by_reason
    from episodes.storage.store import INDEX

    lines = []
    for reason, count in count_by_reason(store.dropped).items():
        lines.append(f"left out, {count}: {reason}")
        named = [one for one in store.dropped if one.reason == reason]
        lines += [f"  {one.id}" + (f": {one.detail}" if one.detail else "") for one in named[:SHOWN]]
        if count > SHOWN:
            lines.append(f"  and {count - SHOWN} more, which are in {store.folder / INDEX}")
    return lines


@data_app.command(epilog="Example: fewshot data split configs/data/episodes.yaml splits/phantoms.json --folds 5")
def split(
    config: ConfigFile,
    out: Annotated[Path, typer.Argument(help="The file to write; folds get names after it: OUT-fold0.json, ...")],
    overrides: Overrides = None,
    parts: Annotated[
        str | None, typer.Option(metavar="NAME=SHARE,...", help="The parts; train=0.7,val=0.15,test=0.15 if not given.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, max=1000, help="Cross-validation: a file for each fold.")] = None,
    official: Annotated[
        Literal["5", "10"] | None, typer.Option(help="The dataset's own folds, as BUS-BRA has them.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed gives another split; 0 if not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Split datasets into parts by patient, near-duplicates together, each class spread evenly.

    CONFIG is one of data or episodes, or of a training: its sources are split, and it takes the file as its `split`.
    """
    fractions = None if parts is None else _fractions(parts)
    _require_one_way(parts=parts, folds=folds, official=official, seed=seed)
    from episodes.sampling.splits import FRACTIONS
    from fewshot.data.splitting import describe_split, load_data_config, make_splits, write_splits
    from fewshot.stores import open_collection

    settings, names = load_data_config(config, overrides or ())
    reporter = new_reporter()
    collection = open_collection(settings, names, reporter)
    with reporter.step("split"):
        of_dataset = int(official) if official else None
        splits = make_splits(collection, fractions or FRACTIONS, folds=folds, official=of_dataset, seed=seed or 0)
    for path, made in write_splits(out, splits, overwrite=overwrite).items():
        lines = "".join(f"  {line}\n" for line in describe_split(made, collection.records))
        sys.stdout.write(f"{path}\n{lines}")


def _require_one_way(*, parts: str | None, folds: int | None, official: str | None, seed: int | None) -> None:
    ways = [name for name, value in (("--parts", parts), ("--folds", folds), ("--official", official)) if value]
    if len(ways) > 1:
        raise typer.BadParameter(f"{ways[0]} and {ways[1]} are two ways to split; give one")
    if official and seed is not None:
        raise typer.BadParameter("--seed is for what is drawn, and official folds are not; leave it out")


def _fractions(text: str) -> dict[str, float]:
    """Parse the shares of parts, such as `train=0.8,test=0.2`; BadParameter if the text does not say such."""
    from episodes.sampling.splits import require_fractions

    found: dict[str, float] = {}
    for item in text.split(","):
        match = re.fullmatch(r"\s*([A-Za-z][\w-]*)\s*=\s*([0-9.]+(?:[eE]-?\d+)?)\s*", item)
        if match is None or match[1] in found:
            raise typer.BadParameter(f"--parts: {item!r}: expected another NAME=SHARE, such as train=0.7")
        try:
            found[match[1]] = float(match[2])
        except ValueError as error:
            raise typer.BadParameter(f"--parts: {match[2]!r} is no number") from error
    try:
        require_fractions(found)
    except UserError as error:
        raise typer.BadParameter(f"--parts: {error}") from error
    return found


@data_app.command(epilog="Example: fewshot data init my-clinic/ --out my-clinic.yaml")
def init(
    folder: Annotated[Path, typer.Argument(help="A folder of images and masks, your own or a known dataset.")],
    name: Annotated[str | None, typer.Option(help="Its name in configurations; the folder's if not given.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Write a configuration that reads it.")] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Write metadata.csv into the folder, to be filled in.")
    ] = False,
    invert_masks: InvertMasks = False,
) -> None:
    """Look at a folder and say what was understood, what is missing, and how it is read from here on.

    Nothing is changed, and no file is ever replaced. The exit status is 1 if the folder cannot be read at all.
    """
    from episodes.datasets.survey import survey
    from episodes.io.files import require_free, write_texts
    from fewshot.data.description import dataset_name, dataset_yaml, doubts, metadata_csv, understood
    from fewshot.terminal import output_console, print_line

    table = folder / "metadata.csv"
    require_free(*([out] if out else []), *([table] if metadata else []))
    with new_reporter().step(f"look at {folder}") as progress:
        seen = survey(folder, progress, invert_masks=invert_masks)
    name = _valid(name) if name else dataset_name(folder, seen.reader)
    console = output_console()
    for line in understood(seen, name):
        print_line(console, line)
    if found := doubts(seen):
        print_line(console, "\nMissing or doubtful:")
        for line in found:
            print_line(console, f"  - {line}")
    text = dataset_yaml(seen, name)
    texts = {table: metadata_csv(seen)} if metadata else {}
    if out and seen.records:
        texts[out] = f"# Written by: fewshot data init {shlex.quote(str(folder))}\n{text}"
    write_texts(texts)
    if metadata:
        print_line(console, f"\nWritten, to be filled in: {table}")
    if not seen.records:
        raise DatasetError(f"{folder}: none of its images can be used; mend what is listed above")
    if out:
        print_line(console, f"\nWritten: {out}")
    else:
        print_line(console, f"\nIn a configuration, beside other datasets:\n{text.rstrip()}")
    print_line(console, f"\nNext: {_next_command(folder, seen.reader, out)}")


def _valid(name: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from fewshot.config.parsing import Name

    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise typer.BadParameter(f"--name {name!r}: letters, digits, - _ . + and spaces, a letter first") from error


def _next_command(folder: Path, reader: str, out: Path | None) -> str:
    if out:
        return f"fewshot data split {shlex.quote(str(out))} {shlex.quote(str(out.with_suffix('.split.json')))}"
    return f"fewshot data check {shlex.quote(str(folder))} --dataset {reader}"


@data_app.command(epilog="Example: fewshot data unpack BUSI.zip data/busi")
def unpack(
    archive: Annotated[Path, typer.Argument(help="A zip or tar archive, as a dataset is distributed.")],
    folder: Annotated[Path, typer.Argument(help="The folder to make; it must not exist yet.")],
) -> None:
    """Unpack a dataset's archive, so that nothing is written elsewhere, too large or half-way."""
    from episodes.io.archives import unpack as unpack_archive

    with new_reporter().step(f"unpack {archive.name}") as progress:
        done = unpack_archive(archive, folder, progress=progress)
    inner = _inner_folder(done.folder)
    left_out = f" ({done.left_out} that a desktop had added were left out)" if done.left_out else ""
    sys.stdout.write(f"{done.folder}: {done.files} files of {done.size / 1e6:.1f} MB{left_out}\n")
    sys.stdout.write(f"Next: fewshot data init {printable(shlex.quote(str(inner)))}\n")


def _inner_folder(folder: Path) -> Path:
    """Find where the files begin: many archives hold one folder, which holds everything."""
    inside = list(folder.iterdir())
    return _inner_folder(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder


@data_app.command(epilog="Example: fewshot data generate phantoms/ --scanner linear --images 100")
def generate(
    root: Annotated[Path, typer.Argument(help="The folder to write; it must not exist yet.")],
    scanner: Annotated[
        str,
        typer.Option(
            help="The machine: linear, highfreq or portable.",
            callback=found_by("episodes.phantoms.imaging", "scanner_named"),
        ),
    ],
    images: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other patients.")] = 0,
    layout: Annotated[
        Literal["folder", "busi", "bus_uclm", "udiat"], typer.Option(help="In the form of which dataset.")
    ] = "folder",
) -> None:
    """Write a phantom dataset: B-mode images made from tissue models, with exact masks."""
    from episodes.io.files import folder_written_whole, require_free
    from episodes.io.locks import exclusive_lock
    from episodes.phantoms import layouts, population
    from fewshot.terminal import with_progress

    require_free(root)
    spec = population.PhantomSpec(scanner, images, seed)
    writer = partial(layouts.write_folder, spec=spec) if layout == "folder" else layouts.WRITERS[layout]
    with exclusive_lock(root), new_reporter().step(f"generate {images} images") as progress:
        require_free(root)  # nor has another process written it meanwhile
        with folder_written_whole(root) as hidden:
            writer(with_progress(population.generate(spec), images, progress), hidden)
    sys.stdout.write(f"{root}\n")


@episodes_app.command(epilog="Example: fewshot episodes sample configs/data/episodes.yaml tasks.jsonl --count 1000")
def sample(
    config: ConfigFile,
    out: Annotated[Path, typer.Argument(help="The manifest to write, JSON lines.")],
    overrides: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing manifest.")] = False,
) -> None:
    """Sample episodes and write them down, so that others can be measured on the same ones."""
    from fewshot.config.data import SampleConfig
    from fewshot.config.parsing import load_config

    settings = load_config(config, SampleConfig, overrides or ())
    from episodes.sampling.manifest import EPISODES
    from fewshot.stores import open_collection
    from fewshot.training.batches import episode_samplers

    collection = open_collection(settings, settings.datasets, new_reporter())
    (sampler,) = episode_samplers(collection, settings.episodes, settings.seed)
    specs = sampler.specs(0, count)
    EPISODES.write(out, specs, collection.records, overwrite=overwrite, **sampler.parameters)
    sys.stdout.write(f"{out}: {count} episodes\n")
