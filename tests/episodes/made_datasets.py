"""Phantoms in the layouts of the real datasets with their quirks, to test the real readers on."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.phantoms.population import Phantom

# By label value: background black, benign green, malignant red.
_COLOURS = np.array([(0, 0, 0), (0, 255, 0), (255, 0, 0)], np.uint8)


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
    with (root / "INFO.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";", lineterminator="\n").writerows((header, *rows))


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
    image.save(path, compress_level=1)


def _binary(mask: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(255))


def _halves(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    middle = int(np.median(np.nonzero(mask)[1]))
    left = np.arange(mask.shape[1]) < middle
    return [mask & left, mask & ~left]


def _letters(number: int) -> str:
    """Return four letters for a patient: AAAA, AAAB, ..."""
    return "".join(chr(ord("A") + number // 26**place % 26) for place in (3, 2, 1, 0))
