"""DICOM files as a scanner exports them, written with pydicom, with telltale identifiers wherever there is room."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

# None of these may ever be found in what is written or printed.
SECRETS = ("Telltale", "HOSPITAL-77", "19610203", "20240229", "1.2.826.0.1.99", "StMungo", "PrivateWords", "Whisper")
INSTANCE = "1.2.826.0.1.99.1.2"


def write_dicom(
    path: Path,
    pixels: NDArray[Any],
    photometric: str = "MONOCHROME2",
    *,
    bits: int | None = None,
    high_bit: int | None = None,
    frames: int | None = None,
    patient: str = "HOSPITAL-77",
    facts: Mapping[str, Any] | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    encoded: list[bytes] | None = None,
) -> Path:
    """Write an ultrasound image.

    Args:
        path: where.
        pixels: ([frames,] H, W[, 3]), as they are stored.
        photometric: how they are to be understood.
        bits: how many of each value are used; all of them if not given.
        high_bit: the highest of them; as many as are used reach to if not given.
        frames: what the file says there are; what there are if not given.
        patient: its patient's id.
        facts: further elements, by keyword.
        syntax: the transfer syntax.
        encoded: the frames, where the syntax compresses them.
    """
    dataset = _identified(patient)
    is_colour = photometric in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
    is_clip = pixels.ndim == (4 if is_colour else 3)
    height, width = pixels.shape[is_clip : is_clip + 2]
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage if is_clip else UltrasoundImageStorage
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = height, width, 3 if is_colour else 1
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1 if high_bit is None else high_bit
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if is_colour:
        dataset.PlanarConfiguration = 0
    if is_clip or frames:
        dataset.NumberOfFrames = frames or len(pixels)
    for keyword, value in (facts or {}).items():
        setattr(dataset, keyword, value)
    content = encapsulate(encoded) if encoded else pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these files are wrong on purpose
        dataset.save_as(path, enforce_file_format=True)
    return path


def _identified(patient: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPInstanceUID = INSTANCE
    dataset.SOPInstanceUID = INSTANCE
    dataset.StudyInstanceUID = "1.2.826.0.1.99.1"
    dataset.SeriesInstanceUID = "1.2.826.0.1.99.2"
    dataset.PatientName = "Telltale^Anna"
    dataset.PatientID = patient
    dataset.PatientBirthDate = "19610203"
    dataset.StudyDate = "20240229"
    dataset.InstitutionName = "StMungo"
    dataset.Modality = "US"
    dataset.ImageComments = "Whisper of Telltale"
    block = dataset.private_block(0x0029, "PrivateWords", create=True)
    block.add_new(0x01, "LO", "PrivateWords of Telltale")
    return dataset


def region(delta_x: float, delta_y: float, units: int = 3, spatial_format: int = 1) -> Dataset:
    """An ultrasound region: by default two-dimensional, with centimetres per pixel."""
    item = Dataset()
    item.RegionSpatialFormat = spatial_format
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta_x, delta_y
    return item


def gradient(height: int = 12, width: int = 16) -> NDArray[np.uint8]:
    """A grey picture without symmetry, of many values."""
    rows, columns = np.mgrid[:height, :width]
    return ((rows * 37 + columns * 11) % 256).astype(np.uint8)
