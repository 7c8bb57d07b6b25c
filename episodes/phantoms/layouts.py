"""Phantoms on disk, as a folder of images, masks and a table."""

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from episodes.errors import DatasetError
from episodes.io.files import folder_written_whole, remove_leftovers
from episodes.io.locks import waiting_lock
from episodes.phantoms.population import Phantom, PhantomSpec, generate

VERSION = 1  # of the generator: raised whenever the same specification gives other pixels
DESCRIPTION = "phantom.json"


def write_folder(phantoms: Iterable[Phantom], root: Path, spec: PhantomSpec | None = None) -> None:
    """Write `images/NAME.png`, `masks/NAME.png` (0 and 255) and `metadata.csv` to an empty or new folder.

    With a specification `phantom.json` says what they were generated from. It is written last: where it is, the dataset
    is complete.
    """
    rows = []
    for phantom in phantoms:
        _save(Image.fromarray(phantom.image), root / "images" / f"{phantom.name}.png")
        _save(Image.fromarray(np.uint8(255) * (phantom.label_map > 0)), root / "masks" / f"{phantom.name}.png")
        rows.append((phantom.name, phantom.label, phantom.patient, f"{phantom.spacing[0]:.6g}"))
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows((("image", "label", "patient", "spacing_mm"), *rows))
    if spec is not None:
        (root / DESCRIPTION).write_text(_describe(spec), encoding="utf-8")


def prepare_phantoms(spec: PhantomSpec, parent: Path) -> Path:
    """Generate a dataset unless it is there, in a folder named after the specification and the generator's version.

    It is written to a temporary folder that is renamed when complete. Of several processes that want the same dataset
    one writes it, and the others wait.

    Raises:
        DatasetError: if a folder of that name is there but holds something else.
        StorageError: if nothing can be written.
    """
    root = parent / f"{spec.scanner}-{spec.n_images}-{spec.seed}-{spec.size}-v{VERSION}"
    if _is_complete(root, spec):
        return root
    with waiting_lock(root):
        if not _is_complete(root, spec):  # nor has another process written it meanwhile
            remove_leftovers(root)
            with folder_written_whole(root) as partial:
                write_folder(generate(spec), partial, spec)
    return root


def _is_complete(root: Path, spec: PhantomSpec) -> bool:
    if not root.exists():
        return False
    description = root / DESCRIPTION
    if not description.is_file() or description.read_text(encoding="utf-8") != _describe(spec):
        raise DatasetError(f"{root}: not the complete phantom dataset of that name; delete the folder and try again")
    return True


def _describe(spec: PhantomSpec) -> str:
    return json.dumps({**asdict(spec), "version": VERSION}, indent=2) + "\n"


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=1)  # speckle hardly compresses: higher levels only take time
