"""`fewshot data unpack`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fewshot.cli.apps import data_app
from fewshot.cli.arguments import new_reporter


@data_app.command(epilog="Example: fewshot data unpack BUSI.zip data/busi")
def unpack(
    archive: Annotated[Path, typer.Argument(help="A zip or tar archive, as a dataset is distributed.")],
    folder: Annotated[Path, typer.Argument(help="The folder to make; it must not exist yet.")],
) -> None:
    """Unpack a dataset's archive, so that nothing is written elsewhere, too large or half-way."""
    from episodes.archives import unpack as unpack_archive

    with new_reporter().step(f"unpack {archive.name}") as progress:
        done = unpack_archive(archive, folder, progress=progress)
    inner = _inner_folder(done.folder)
    left_out = f" ({done.left_out} that a desktop had added were left out)" if done.left_out else ""
    sys.stdout.write(f"{done.folder}: {done.files} files of {done.size / 1e6:.1f} MB{left_out}\n")
    sys.stdout.write(f"Next: fewshot data init {shlex.quote(str(inner))}\n")


def _inner_folder(folder: Path) -> Path:
    """Where the files begin: many archives hold one folder, which holds everything."""
    inside = list(folder.iterdir())
    return _inner_folder(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder
