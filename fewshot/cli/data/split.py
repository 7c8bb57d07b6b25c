"""`fewshot data split`."""

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from episodes.errors import UserError
from fewshot.cli.apps import data_app
from fewshot.cli.arguments import ConfigFile, Overrides, new_reporter


class Official(StrEnum):
    """The folds that a dataset's authors publish."""

    FIVE = "5"
    TEN = "10"


@data_app.command(epilog="Example: fewshot data split configs/data/episodes.yaml splits/phantoms.json --folds 5")
def split(
    config: ConfigFile,
    out: Annotated[Path, typer.Argument(help="The file to write; folds get names after it: OUT-fold0.json, ...")],
    overrides: Overrides = None,
    parts: Annotated[
        str | None,
        typer.Option(metavar="NAME=SHARE,...", help="The parts; train=0.7,val=0.15,test=0.15 if not given."),
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, max=1000, help="Cross-validation: a file for each fold.")] = None,
    official: Annotated[Official | None, typer.Option(help="The dataset's own folds, as BUS-BRA has them.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed gives another split; 0 if not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Split datasets into parts by patient, near-duplicates together, each class spread evenly.

    CONFIG is one of data or episodes, or of a training: its sources are split, and it takes the file as its `split`.
    """
    fractions = None if parts is None else _fractions(parts)
    _require_one_way(parts=parts, folds=folds, official=official, seed=seed)
    from episodes.splits import FRACTIONS
    from fewshot.data.splitting import Request, describe_split, load_data_config, make_splits, write_splits
    from fewshot.data.stores import open_collection

    settings, names = load_data_config(config, overrides or ())
    request = Request(fractions or FRACTIONS, folds, int(official.value) if official else None, seed or 0)
    reporter = new_reporter()
    collection = open_collection(settings, names, reporter)
    with reporter.step("split"):
        splits = make_splits(collection, request)
    for path, made in write_splits(out, splits, overwrite=overwrite).items():
        lines = "".join(f"  {line}\n" for line in describe_split(made, collection.records))
        sys.stdout.write(f"{path}\n{lines}")


def _require_one_way(*, parts: str | None, folds: int | None, official: Official | None, seed: int | None) -> None:
    ways = [name for name, value in (("--parts", parts), ("--folds", folds), ("--official", official)) if value]
    if len(ways) > 1:
        raise typer.BadParameter(f"{ways[0]} and {ways[1]} are two ways to split; give one")
    if official and seed is not None:
        raise typer.BadParameter("--seed is for what is drawn, and official folds are not; leave it out")


def _fractions(text: str) -> dict[str, float]:
    """The shares of parts, such as `train=0.8,test=0.2`.

    Raises:
        BadParameter: if the text does not say such.
    """
    from episodes.splits import require_fractions

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
