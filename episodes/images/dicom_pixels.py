"""The pixels of DICOM files, as the grey values that a viewer would show."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import DatasetError
from episodes.images.dicom_header import DicomFacts, read_dicom_facts, read_header
from episodes.images.rasters import frame_index, readable

_TABLES = ("ModalityLUTSequence", "VOILUTSequence")


def grey_bytes(values: NDArray[Any], dataset: Any, path: Path) -> NDArray[np.uint8]:
    """Show stored values (H, W) through the window in the file's dataset, or over the whole range of the stored bits.

    Raises:
        DatasetError: if the file shows its values through a table, or its window has no width.
    """
    if any(table in dataset for table in _TABLES) and "WindowWidth" not in dataset:
        raise DatasetError(f"{path}: shows its values through a table, which is not read; export it with a window")
    signed, bits = bool(dataset.PixelRepresentation), int(dataset.BitsStored)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    lowest = -(2 ** (bits - 1)) if signed else 0
    ends = sorted(slope * end + intercept for end in (lowest, lowest + 2**bits - 1))
    rescaled = slope * values + intercept
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


def _stored_bits(values: NDArray[Any], dataset: Any, path: Path) -> NDArray[Any]:
    """Take the stored bits alone, which end at `HighBit`: old files keep overlays above, left-justified ones end there.

    Where they do not lie within the allocated ones, a `DatasetError` is raised.
    """
    bits, width = int(dataset.BitsStored), 8 * values.dtype.itemsize
    high = int(dataset.get("HighBit", bits - 1))
    if not bits - 1 <= high < int(dataset.BitsAllocated):
        raise DatasetError(
            f"{path}: HighBit is {high} of {bits} bits stored in {int(dataset.BitsAllocated)}; expected {bits - 1};"
            " export it again"
        )
    if bits >= width:
        return values
    # A shift to the right brings a sign back from the top bit.
    kept: NDArray[Any] = np.right_shift(np.left_shift(values, width - 1 - high), width - bits)
    return kept


def _first(dataset: Any, keyword: str) -> float | None:
    """Return the first number of an element that may hold several: one for each window that is offered."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_ELEMENT_HEADER = 12  # bytes before the first fragment of compressed pixels: tag, kind, length
_RLE_LOSSLESS = "1.2.840.10008.1.2.5"
_RLE_SLACK = 1024  # its header, and padding


def read_pixels(path: Path, frame: int | None = None) -> NDArray[np.uint8]:
    """Decode one frame, counted from 1, as a viewer shows it: grey values (H, W) or colours (H, W, 3).

    Grey values are shown through the file's first window (PS3.3, C.11.2.1.2) after rescaling; without a window the
    whole range of the stored bits is shown, so that frames of a scanner stay comparable. `MONOCHROME1` is inverted.
    Colours (`RGB`, `YBR_FULL`, `YBR_FULL_422`, `PALETTE COLOR`) become RGB.

    Raises:
        DatasetError: if the file cannot be decoded, or there is no such frame.
    """
    _, values, dataset = _decode(path, frame)
    with readable(path, private=True):
        return values if values.ndim == 3 else grey_bytes(values, dataset, path)


def read_stored(path: Path) -> NDArray[Any]:
    """Decode a mask as it is stored, without window or rescaling: integers (H, W), or colours (H, W, 3) from 0 to 255.

    Raises:
        DatasetError: if the file cannot be decoded, has several frames, or shows low values bright.
    """
    facts, values, _ = _decode(path, None)
    if facts.photometric == "MONOCHROME1" and values.ndim == 2:
        raise DatasetError(f"{path}: a mask in MONOCHROME1, which shows 0 as white; save it as MONOCHROME2")
    return values


def _decode(path: Path, frame: int | None) -> tuple[DicomFacts, NDArray[Any], Any]:
    """Decode a frame to stored values (H, W), or to colours (H, W, 3) from 0 to 255."""
    facts = read_dicom_facts(path)
    index = frame_index(facts.frames, frame, path)
    with readable(path, private=True):
        from pydicom import Dataset
        from pydicom.pixels.processing import apply_color_lut
        from pydicom.pixels.utils import pixel_array

        _check_encoded_frame(path, facts, index)
        dataset = Dataset()  # receives the elements of the group that describes pixels, and no others
        # Luma and chroma become RGB. Unused bits are not left to pydicom, which drops used ones of a high `HighBit`.
        values = pixel_array(path, ds_out=dataset, index=index, correct_unused_bits=False)
        if values.shape[:2] != facts.size:
            raise DatasetError(f"{path}: its pixels are not of the size that it states; restore the original file")
        values = _stored_bits(values, dataset, path)
        if values.ndim == 3:
            values = scaled(values, 0, 2**facts.bits - 1)
        elif facts.photometric == "PALETTE COLOR":
            colours = apply_color_lut(values, dataset)[..., :3]
            values = scaled(colours, 0, np.iinfo(colours.dtype).max)
    return facts, values, dataset


def _check_encoded_frame(path: Path, facts: DicomFacts, index: int) -> None:
    """Refuse a compressed frame that would unpack to more than the header states: a few bytes can fill memory."""
    from pydicom.encaps import get_frame

    with path.open("rb") as file:
        dataset = read_header(file, path, _OFFSETS)
        syntax = dataset.file_meta.TransferSyntaxUID
        if not syntax.is_encapsulated:
            return
        file.seek(_ELEMENT_HEADER, 1)
        offsets = tuple(dataset[keyword].value for keyword in _OFFSETS) if _OFFSETS[0] in dataset else None
        encoded = get_frame(file, index, number_of_frames=facts.frames, extended_offsets=offsets)
    height, width = facts.size
    if syntax == _RLE_LOSSLESS:  # at its worst it is a little longer than the pixels, see PS3.5, annex G
        fits = len(encoded) <= 2 * height * width * facts.samples * facts.bits_allocated // 8 + _RLE_SLACK
    else:
        with Image.open(BytesIO(encoded), formats=("JPEG", "JPEG2000")) as image:
            fits = image.size == (width, height)
    if not fits:
        raise DatasetError(f"{path}: its pixels are not of the size that it states; restore the original file")
