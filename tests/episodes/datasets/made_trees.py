"""Small dataset trees, written with Pillow alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from episodes.records import Record

SIZE = (12, 16)  # H, W


def save_image(path: Path, seed: int = 0, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def save_mask(
    path: Path,
    box: tuple[int, int, int, int] | None = (2, 3, 6, 9),
    mode: str = "1",
    colour: object = 1,
    size: tuple[int, int] = SIZE,
) -> Path:
    """A mask that is black but for a box (left, upper, right, lower; the latter two exclusive)."""
    mask = Image.new(mode, size[::-1])
    if box:
        mask.paste(colour, box)  # type: ignore[call-overload]
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.save(path)
    return path


def write_table(path: Path, rows: Iterable[Sequence[object]], delimiter: str = ",", bom: bool = False) -> Path:
    lines = [delimiter.join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if bom else "utf-8")
    return path


def write_excel(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    from openpyxl import Workbook

    workbook = Workbook()
    for row in rows:
        workbook.active.append(list(row))
    workbook.save(path)
    return path


def by_stem(records: Iterable[Record]) -> dict[str, Record]:
    return {record.image.stem: record for record in records}
