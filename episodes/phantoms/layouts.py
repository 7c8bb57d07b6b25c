"""Phantoms on disk, in the layouts of the real datasets with their quirks, to test the real readers on."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import DatasetError
from episodes.io.files import folder_written_whole, remove_leftovers
from episodes.io.locks import waiting_lock
from episodes.phantoms.population import Phantom, PhantomSpec, generate

VERSION = 1  # of the generator: raised whenever the same specification gives other pixels
DESCRIPTION = "phantom.json"

# By label value: background black, benign green, malignant red.
_COLOURS = np.array([(0, 0, 0), (0, 255, 0), (255, 0, 0)], np.uint8)


def write_folder(phantoms: Iterable[Phantom], root: Path, spec: PhantomSpec | None = None) -> None:
    """Write `images/NAME.png`, `masks/NAME.png` (0 and 255) and `metadata.csv` to an empty or new folder.

    With a specification `phantom.json` says what they were generated from. It is written last: where it is, the dataset
    is complete.
    """
    rows = []
    for phantom in phantoms:
        _save(Image.fromarray(phantom.image), root / "images" / f"{phantom.name}.png")
        _save(_binary(phantom.label_map > 0), root / "masks" / f"{phantom.name}.png")
        rows.append((phantom.name, phantom.label, phantom.patient, f"{phantom.spacing[0]:.6g}"))
    _save_table(root / "metadata.csv", ("image", "label", "patient", "spacing_mm"), rows)
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


def write_busi(phantoms: Iterable[Phantom], root: Path) -> None:
    """Write `benign/benign (1).png`, `benign/benign (1)_mask.png`, ... as BUSI does, patients forgotten.

    Images are RGB. Masks have mode 1, those of normals are RGB and black. Every fourth lesion of a class has
    two masks, and every eighth has its second one in RGBA.
    """
    counts: Counter[str] = Counter()
    for phantom in phantoms:
        counts[phantom.label] += 1
        number = counts[phantom.label]
        stem = root / phantom.label / f"{phantom.label} ({number})"
        _save(Image.fromarray(phantom.image).convert("RGB"), stem.with_name(f"{stem.name}.png"))
        if phantom.label == "normal":
            _save(Image.new("RGB", phantom.image.shape[::-1]), stem.with_name(f"{stem.name}_mask.png"))
            continue
        parts = [phantom.label_map > 0] if number % 4 else _halves(phantom.label_map > 0)
        for part, suffix in zip(parts, ("", "_1"), strict=False):
            mode = "RGBA" if suffix and not number % 8 else "1"
            _save(_binary(part).convert(mode), stem.with_name(f"{stem.name}_mask{suffix}.png"))


def write_bus_uclm(phantoms: Iterable[Phantom], root: Path) -> None:
    """Write `images/AAAA_000.png`, `masks/AAAA_000.png` and `INFO.csv` as BUS-UCLM does.

    Masks are RGB: green benign, red malignant. The table has semicolons, a byte-order mark and one stray `Y`.
    The fourth patient's images, HESN's as there, are RGBA and smaller than their masks.
    """
    codes: dict[str, str] = {}
    counts: Counter[str] = Counter()
    rows: list[tuple[str, ...]] = []
    for phantom in phantoms:
        code = codes.setdefault(phantom.patient, "HESN" if len(codes) == 3 else _letters(len(codes)))
        name = f"{code}_{counts[code]:03d}.png"
        counts[code] += 1
        image = Image.fromarray(phantom.image).convert("RGB")
        if code == "HESN":
            image = image.convert("RGBA").resize((image.width * 3 // 4, image.height * 4 // 5))
        _save(image, root / "images" / name)
        _save(Image.fromarray(_COLOURS[phantom.label_map]), root / "masks" / name)
        doppler = "Y" if len(rows) == 1 else "No"
        rows.append((name, f"{image.width}x{image.height}", phantom.label.capitalize(), doppler, "No", "No"))
    header = ("Image", "Resolution", "Label", "Doppler", "Marks", "Combined")
    _save_table(root / "INFO.csv", header, rows, delimiter=";", encoding="utf-8-sig")


def write_udiat(phantoms: Iterable[Phantom], root: Path) -> None:
    """Write the lesions among the phantoms as UDIAT's Dataset B does; it has no normals."""
    lesions = [phantom for phantom in phantoms if phantom.label != "normal"]
    for number, phantom in enumerate(lesions, start=1):
        name = f"{number:06d}.png"
        _save(Image.fromarray(phantom.image), root / "original" / name)
        _save(_binary(phantom.label_map > 0), root / "GT" / name)
    for label in ("benign", "malignant"):
        cases = [f"{n:06d}\n" for n, phantom in enumerate(lesions, start=1) if phantom.label == label]
        (root / f"{label}.txt").write_text("".join(cases), encoding="utf-8")


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=1)  # speckle hardly compresses: higher levels only take time


def _save_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str = ",", encoding: str = "utf-8"
) -> None:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows((header, *rows))


def _binary(mask: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(255))


def _halves(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    middle = int(np.median(np.nonzero(mask)[1]))
    left = np.arange(mask.shape[1]) < middle
    return [mask & left, mask & ~left]


def _letters(number: int) -> str:
    """Return four letters for a patient: AAAA, AAAB, ..."""
    return "".join(chr(ord("A") + number // 26**place % 26) for place in (3, 2, 1, 0))


WRITERS: Mapping[str, Callable[[Iterable[Phantom], Path], None]] = {
    "folder": write_folder,
    "busi": write_busi,
    "bus_uclm": write_bus_uclm,
    "udiat": write_udiat,
}
"""By the name of the dataset's reader."""
