"""The pixels of a DICOM file, one frame at a time."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.dicom.files import read_header, readable
from episodes.dicom.greys import grey_bytes, scaled
from episodes.dicom.header import DicomFacts, read_facts
from episodes.errors import DatasetError
from episodes.rasters import frame_index

_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_ELEMENT_HEADER = 12  # bytes before the first fragment of compressed pixels: tag, kind, length
_RLE_LOSSLESS = "1.2.840.10008.1.2.5"
_RLE_SLACK = 1024  # its header, and padding


def read_pixels(path: Path, frame: int | None = None) -> NDArray[np.uint8]:
    """Decode one frame as a viewer shows it.

    Grey values are shown through the file's first window (PS3.3, C.11.2.1.2) after rescaling; without a window the
    whole range of the stored bits is shown, so that frames of a scanner stay comparable. `MONOCHROME1` is inverted.
    Colours (`RGB`, `YBR_FULL`, `YBR_FULL_422`, `PALETTE COLOR`) become RGB.

    Args:
        path: the file.
        frame: which one, from 1 on; None if there is only one.

    Returns:
        Grey values (H, W) or colours (H, W, 3).

    Raises:
        DatasetError: if the file cannot be decoded, or there is no such frame.
    """
    facts, values, dataset = _decode(path, frame)
    with readable(path):
        if values.ndim == 3:
            return scaled(values, 0, 2**facts.bits - 1)
        if facts.photometric == "PALETTE COLOR":
            return _palette_colours(values, dataset)
        return grey_bytes(values, dataset, path)


def read_stored(path: Path) -> NDArray[Any]:
    """Decode a mask: the values as they are stored, without window or rescaling.

    Returns:
        Integers (H, W), or colours (H, W, 3) from 0 to 255.

    Raises:
        DatasetError: if the file cannot be decoded, has several frames, or shows low values bright.
    """
    facts, values, dataset = _decode(path, None)
    with readable(path):
        if values.ndim == 3:
            return scaled(values, 0, 2**facts.bits - 1)
        if facts.photometric == "PALETTE COLOR":
            return _palette_colours(values, dataset)
        if facts.photometric == "MONOCHROME1":
            raise DatasetError(f"{path}: a mask in MONOCHROME1, which shows 0 as white; save it as MONOCHROME2")
        return values


def _decode(path: Path, frame: int | None) -> tuple[DicomFacts, NDArray[Any], Any]:
    """Decode a frame to stored values, or to RGB where it is stored as luma and chroma."""
    facts = read_facts(path)
    index = frame_index(facts.frames, frame, path)
    with readable(path):
        from pydicom import Dataset
        from pydicom.pixels.utils import pixel_array

        _check_encoded_frame(path, facts, index)
        dataset = Dataset()  # receives the elements of the group that describes pixels, and no others
        values = pixel_array(path, ds_out=dataset, index=index)
    if values.shape[:2] != facts.size:
        raise DatasetError(f"{path}: its pixels are not of the size that it states; restore the original file")
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


def _palette_colours(values: NDArray[Any], dataset: Any) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    colours: NDArray[Any] = apply_color_lut(values, dataset)
    return scaled(colours[..., :3], 0, np.iinfo(colours.dtype).max)
