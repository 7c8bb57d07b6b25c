"""`fewshot data check`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from episodes.errors import UserError
from fewshot.cli.apps import data_app
from fewshot.cli.arguments import Dataset, Root, new_reporter


@data_app.command(epilog="Example: fewshot data check data/Dataset_BUSI_with_GT --dataset busi")
def check(
    root: Root,
    dataset: Dataset,
    details: Annotated[bool, typer.Option("--details", help="List every finding below the table.")] = False,
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
    from episodes.checks import check_dataset
    from episodes.files import write_text
    from fewshot.data.check_table import print_check

    if out and out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; choose another name, or replace it with --overwrite")
    reporter = new_reporter()
    with reporter.step(f"check {dataset}") as progress:
        report = check_dataset(dataset, root, progress=progress)
    text = json.dumps(report.as_json(), indent=1) + "\n"
    if out:
        write_text(out, text)
    if as_json:
        sys.stdout.write(text)
    else:
        print_check(report, details=details)
    if strict and report.loses_data:
        raise typer.Exit(1)
