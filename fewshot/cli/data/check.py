"""`fewshot data check`."""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from fewshot.cli.apps import data_app
from fewshot.cli.arguments import Dataset, Root, new_reporter


@data_app.command(epilog="Example: fewshot data check data/Dataset_BUSI_with_GT --dataset busi")
def check(
    root: Root,
    dataset: Dataset,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Read every file of a dataset and list what looks wrong."""
    from episodes.curation import check as check_records
    from episodes.datasets import read_dataset
    from fewshot.tables import print_check

    reporter = new_reporter()
    with reporter.step(f"check {dataset}") as progress:
        report = check_records(read_dataset(dataset, root), root, progress=progress)
    if as_json:
        sys.stdout.write(json.dumps(asdict(report), indent=1) + "\n")
    else:
        print_check(report)
