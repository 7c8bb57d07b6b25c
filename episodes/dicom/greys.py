"""From stored values to the grey values that a viewer shows (DICOM PS3.3, sections C.11.1 and C.11.2)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import DatasetError

_TABLES = ("ModalityLUTSequence", "VOILUTSequence")


def grey_bytes(values: NDArray[Any], dataset: Any, path: Path) -> NDArray[np.uint8]:
    """Show stored values through the file's window, or over the whole range of the stored bits.

    Args:
        values: (H, W), as stored.
        dataset: pydicom's, with the elements that say how they are shown.
        path: for errors.

    Raises:
        DatasetError: if the file shows its values through a table, or its window has no width.
    """
    if any(table in dataset for table in _TABLES) and "WindowWidth" not in dataset:
        raise DatasetError(f"{path}: shows its values through a table, which is not read; export it with a window")
    signed, bits = bool(dataset.PixelRepresentation), int(dataset.BitsStored)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    lowest = -(2 ** (bits - 1)) if signed else 0
    ends = sorted(slope * end + intercept for end in (lowest, lowest + 2**bits - 1))
    rescaled = slope * _without_unused_bits(values, signed, bits) + intercept
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if centre is None or width is None:
        shown = scaled(rescaled, *ends)
    else:
        shown = scaled(windowed(rescaled, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"), path), 0, 1)
    return 255 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


def windowed(
    values: NDArray[np.float64], centre: float, width: float, function: str, path: Path
) -> NDArray[np.float64]:
    """Map values to how bright they are shown, within [0, 1] but for `LINEAR` and `LINEAR_EXACT` beyond the window.

    Raises:
        DatasetError: if the width is less than the function allows, or the function is unknown.

    >>> windowed(np.array([0.0, 127.5, 255.0]), 128, 256, "LINEAR", Path("a.dcm"))
    array([0. , 0.5, 1. ])
    """
    if function == "LINEAR" and width > 1:
        return (values - (centre - 0.5)) / (width - 1) + 0.5
    if function == "LINEAR" and width == 1:
        return (values > centre - 0.5).astype(np.float64)
    if function == "LINEAR_EXACT" and width > 0:
        return (values - centre) / width + 0.5
    if function == "SIGMOID" and width > 0:
        steepness = np.clip(4 * (values - centre) / width, -500, 500)
        return np.asarray(1 / (1 + np.exp(-steepness)))
    raise DatasetError(f"{path}: its window ({function[:12]}, width {width:g}) cannot be used; export it with another")


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map [low, high] to 0 to 255; what lies beyond is cut off.

    >>> scaled(np.array([-5, 0, 2048, 4095]), 0, 4095)
    array([  0,   0, 128, 255], dtype=uint8)
    """
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return np.ascontiguousarray(values)
    shares = (values.astype(np.float64) - low) / (high - low)
    return np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def _without_unused_bits(values: NDArray[Any], signed: bool, bits: int) -> NDArray[Any]:
    """Drop what lies above the stored bits: old files keep overlays there."""
    unused = 8 * values.dtype.itemsize - bits
    if unused <= 0:
        return values
    kept: NDArray[Any] = values & values.dtype.type(2**bits - 1)
    if signed:
        kept = np.right_shift(np.left_shift(values, unused), unused)  # the sign comes back from the top bit
    return kept


def _first(dataset: Any, keyword: str) -> float | None:
    """The first number of an element that may hold several: one for each window that is offered."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
