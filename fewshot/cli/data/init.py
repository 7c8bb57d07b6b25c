"""`fewshot data init`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from episodes.errors import DatasetError, UserError
from fewshot.cli.apps import data_app
from fewshot.cli.arguments import new_reporter


@data_app.command(epilog="Example: fewshot data init my-clinic/ --out my-clinic.yaml")
def init(
    folder: Annotated[Path, typer.Argument(help="A folder of images and masks, your own or a known dataset.")],
    name: Annotated[str | None, typer.Option(help="Its name in configurations; the folder's if not given.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Write a configuration that reads it.")] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Write metadata.csv into the folder, to be filled in.")
    ] = False,
) -> None:
    """Look at a folder and say what was understood, what is missing, and how it is read from here on.

    Nothing is changed, and no file is ever replaced. The exit status is 1 if the folder cannot be read at all.
    """
    from episodes.files import write_text
    from episodes.survey import survey
    from fewshot.data.folder_report import dataset_name, dataset_yaml, doubts, understood
    from fewshot.data.metadata_table import metadata_csv
    from fewshot.terminal.console import output_console, print_line

    table = folder / "metadata.csv"
    for path in [*([out] if out else []), *([table] if metadata else [])]:
        if path.exists():
            raise UserError(f"{path}: exists already and is not replaced; move it away, or choose another name")
    with new_reporter().step(f"look at {folder}") as progress:
        seen = survey(folder, progress)
    name = _valid(name) if name else dataset_name(folder, seen.reader)
    console = output_console()
    for line in understood(seen, name):
        print_line(console, line)
    if found := doubts(seen):
        print_line(console, "\nMissing or doubtful:")
        for line in found:
            print_line(console, f"  - {line}")
    if metadata:
        write_text(table, metadata_csv(seen))
        print_line(console, f"\nWritten, to be filled in: {table}")
    if not seen.records:
        raise DatasetError(f"{folder}: none of its images can be used; mend what is listed above")
    text = dataset_yaml(seen, name)
    if out:
        write_text(out, f"# Written by: fewshot data init {shlex.quote(str(folder))}\n{text}")
        print_line(console, f"\nWritten: {out}")
    else:
        print_line(console, f"\nIn a configuration, beside other datasets:\n{text.rstrip()}")
    print_line(console, f"\nNext: {_next_command(folder, seen.reader, out)}")


def _valid(name: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from fewshot.config.strict import Name

    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise typer.BadParameter(f"--name {name!r}: letters, digits, - _ . + and spaces, a letter first") from error


def _next_command(folder: Path, reader: str, out: Path | None) -> str:
    if out:
        return f"fewshot data split {shlex.quote(str(out))} {shlex.quote(str(out.with_suffix('.split.json')))}"
    return f"fewshot data check {shlex.quote(str(folder))} --dataset {reader}"
