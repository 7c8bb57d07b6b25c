"""Headers of DICOM files: what they say of the image, without what identifies a patient."""

import re
import secrets
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

from episodes.errors import DatasetError
from episodes.images.dicom_limits import (
    NUMBERS,
    LimitedHeader,
    require_fair_numbers,
    require_few_frames,
    require_few_regions,
    require_stated_frames,
)
from episodes.images.rasters import SUFFIXES as RASTER_SUFFIXES
from episodes.images.rasters import readable, require_fair_size
from episodes.images.spacing import Spacing, spacing_doubt

SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})

_PREAMBLE = 128
_MARK = b"DICM"
# It would be inflated whole, to whatever size, before anything in it can be checked.
_DEFLATED = "1.2.840.10008.1.2.1.99"
_OF_PYDICOM = r"pydicom(\.|$)"
_PLUGINS = "`pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg`"


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM: by its suffix or, where that says nothing, by the mark `DICM` after 128 bytes.

    Scanners name files `IM_0001`, or by a number such as `1.2.840.113619.2.55.3`, whose last part is no suffix. The
    directory of an exported medium, `DICOMDIR`, holds no image and counts as none; nor does what cannot be opened.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix in RASTER_SUFFIXES or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    try:
        return path.is_file() and has_mark(path)
    except OSError:
        return False


def has_mark(path: Path) -> bool:
    """Tell whether the file begins as DICOM files do (PS3.10, section 7.1)."""
    with path.open("rb") as file:
        return file.read(_PREAMBLE + len(_MARK))[_PREAMBLE:] == _MARK


class NoPictureError(DatasetError):
    """A DICOM file is of a kind that holds no picture, such as a structured report."""


# What the kinds of DICOM that hold pixels have in their names (PS3.6, table A-1).
_PICTURES = ("Image", "Volume", "Segmentation", "Map", "Dose")


def read_header(file: BinaryIO, path: Path, keywords: Collection[str]) -> Any:
    """Read named elements into a pydicom `Dataset`, and no others; the file is left where the pixels begin.

    Raises:
        NoPictureError: if it is a DICOM file of another kind.
        DatasetError: if the file is not DICOM, its transfer syntax cannot be read here, or its header is too large.
    """
    _load_pydicom(path)
    from pydicom import dcmread

    if not has_mark(path):
        raise DatasetError(f"{path} is no DICOM file: the mark DICM is missing; restore the original file")
    _require_known_syntax(path)
    limited = LimitedHeader(file, path)
    try:
        return dcmread(cast(Any, limited), stop_before_pixels=True, specific_tags=list(keywords))
    except Exception:
        limited.require_fair()
        raise


def _require_known_syntax(path: Path) -> None:
    """Refuse what holds no picture, or none that can be decoded, before anything else of the file is read."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.pixels.decoders.base import get_decoder

    meta = read_file_meta_info(path)
    kind = meta.get("MediaStorageSOPClassUID")
    if kind is not None and kind.keyword and not any(word in kind.keyword for word in _PICTURES):
        raise NoPictureError(f"{path}: holds no picture ({kind.name})")
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:
        raise DatasetError(f"{path}: names no transfer syntax, so that it cannot be decoded; export it again")
    if syntax == _DEFLATED:
        raise DatasetError(f"{path}: is deflated as a whole, which is not read; export it uncompressed")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        name = syntax.name if syntax.is_transfer_syntax else "an unknown transfer syntax"
        raise DatasetError(f"{path}: its pixels are {name}, which is not read; export it uncompressed") from None
    if not decoder.is_available:
        raise DatasetError(
            f"{path}: its pixels are {syntax.name}, which needs a plugin: run {_PLUGINS}, or export it uncompressed"
        )


def _load_pydicom(path: Path) -> None:
    """Import pydicom, and keep its warnings back: they may quote values, and what they say is checked or harmless."""
    if not any(getattr(module, "pattern", None) == _OF_PYDICOM for _, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=_OF_PYDICOM)
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise DatasetError(f"{path}: DICOM needs pydicom: run `pip install 'fewshot-bus[data]'`") from error


_KEYWORDS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored"),
    *("PhotometricInterpretation", "SequenceOfUltrasoundRegions", *NUMBERS),
    *("BurnedInAnnotation", "PatientID", "StudyInstanceUID", "PatientName"),
)
_PHOTOMETRIC = frozenset(
    {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
)
_CENTIMETRES = 3  # PS3.3, section C.8.5.5.1.15
_FLAT_PICTURE = 1  # the region is a 2D image, not a curve; section C.8.5.5.1.1
_AGREE = 0.01  # pixels of two regions count as one size if they differ by less

IdentityKeyword = Literal["PatientID", "StudyInstanceUID", "PatientName"]
IDENTITY: Sequence[IdentityKeyword] = get_args(IdentityKeyword)
# What anonymisers write for everybody consists of these words, of zeros or of crosses; ANON-0012 has its own number.
_OF_EVERYBODY = frozenset(
    b"anon anonym anonyme anonymous anonymus anonymise anonymised anonymisiert anonymize anonymized de deid "
    b"deidentified identified pseudonymised pseudonymized removed redacted deleted hidden masked unknown unk none null "
    b"nil nan na no not the missing available given known applicable patient subject name id".split()
)
_WORD = re.compile(rb"[a-z0-9\x80-\xff]+")

# Without it, an identifier could be found by trying; with it, a key means something in this process alone.
_SECRET = secrets.token_bytes(32)


SHOWING_NAMES: set[Path] = set()
"""The files that were read so far and say that a name is written into their picture, for a warning at the end."""


@dataclass(frozen=True, slots=True)
class DicomFacts:
    """The facts that a file states of its image."""

    size: tuple[int, int]  # (H, W) of each frame
    frames: int
    samples: int  # 1 grey value or index into a palette, or 3 colours per pixel
    bits_allocated: int  # of each sample, as it lies in the file
    bits: int  # of each sample that are used
    photometric: str  # what the samples mean, such as `MONOCHROME2`
    spacing: Spacing | None  # where the file says it, and it can be that of an ultrasound image
    spacing_doubt: str  # what is wrong with the one that the file says; empty where nothing is
    # By what its patient is known again, in the order in which it counts; meaningless outside this process.
    identity: Mapping[IdentityKeyword, str] = field(repr=False)
    may_show_names: bool  # the file does not rule out that a name is written into the picture
    shows_names: bool  # the file says that one is


def read_dicom_facts(path: Path) -> DicomFacts:
    """Read a file's facts; its pixels are not touched.

    The spacing is that of the ultrasound regions (PS3.3, C.8.5.5), if all two-dimensional ones that are measured in
    centimetres agree; without regions it is `PixelSpacing` or, last, `ImagerPixelSpacing`.

    Raises:
        DatasetError: if the file is missing, no DICOM, damaged, of a kind that cannot be decoded, or too large, or its
            header states what cannot be.
    """
    with readable(path, private=True), path.open("rb") as file:
        dataset = read_header(file, path, _KEYWORDS)
        _require_fair_greys(dataset, path)
        spacing = _spacing(dataset, path)
        doubt = spacing_doubt(spacing) if spacing else ""
        facts = DicomFacts(
            size=(_whole(dataset, "Rows", path), _whole(dataset, "Columns", path)),
            frames=_whole(dataset, "NumberOfFrames", path, default=1),
            samples=_whole(dataset, "SamplesPerPixel", path, default=1),
            bits_allocated=_whole(dataset, "BitsAllocated", path),
            bits=_whole(dataset, "BitsStored", path),
            photometric=str(dataset.get("PhotometricInterpretation", "")).strip(),
            spacing=None if doubt else spacing,
            spacing_doubt=doubt,
            identity={keyword: key for keyword in IDENTITY if (key := _identity_key(dataset, keyword))},
            may_show_names=str(dataset.get("BurnedInAnnotation", "")).upper() != "NO",
            shows_names=str(dataset.get("BurnedInAnnotation", "")).upper() == "YES",
        )
        if facts.shows_names:
            SHOWING_NAMES.add(path.absolute())
        is_compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
        _require_whole_file(facts, is_compressed, path)
        if is_compressed and facts.frames > 1:
            require_stated_frames(file, facts.frames, path)
    return facts


def _require_fair_greys(dataset: Any, path: Path) -> None:
    """Refuse numbers with which grey values would be infinite, or all the same."""
    for keyword in NUMBERS:
        value = dataset.get(keyword)
        if value is not None and value != "":
            require_fair_numbers([value] if isinstance(value, int | float | str) else value, keyword, path)
    slope, intercept = (float(dataset.get(f"Rescale{name}") or 0) for name in ("Slope", "Intercept"))
    if slope and intercept + slope == intercept:
        raise DatasetError(
            f"{path}: RescaleSlope {slope:g} is lost beside RescaleIntercept {intercept:g}; export it again"
        )


def _whole(dataset: Any, keyword: str, path: Path, default: int | None = None) -> int:
    value = dataset.get(keyword)
    number = default if value is None else int(value)
    if number is None or number < 1:
        raise DatasetError(f"{path}: {keyword} is missing or no positive number; export the file again")
    return number


def _require_whole_file(facts: DicomFacts, is_compressed: bool, path: Path) -> None:
    """Refuse by the header alone what is too large, or cannot be there as the file is too short."""
    height, width = facts.size
    require_fair_size(width, height, path)
    require_few_frames(facts.frames, path)
    if facts.samples not in (1, 3) or facts.bits_allocated not in (1, 8, 16) or facts.bits > facts.bits_allocated:
        raise DatasetError(
            f"{path}: {facts.samples} samples of {facts.bits} in {facts.bits_allocated} bits; expected 1 or 3 samples "
            "of 1, 8 or up to 16 bits"
        )
    samples = 2 if facts.samples == 3 else 1  # colours may be stored at half the resolution (YBR_FULL_422)
    expected = height * width * samples * facts.bits_allocated // 8 * facts.frames
    if facts.photometric not in _PHOTOMETRIC:
        raise DatasetError(
            f"{path}: PhotometricInterpretation is missing or not one of {', '.join(sorted(_PHOTOMETRIC))}; export the "
            "file again"
        )
    if not is_compressed and expected > path.stat().st_size:
        raise DatasetError(f"{path} cannot be decoded (cut off); restore the original file")


def _spacing(dataset: Any, path: Path) -> Spacing | None:
    require_few_regions(dataset, path)
    regions = list(dataset.get("SequenceOfUltrasoundRegions") or ())
    if regions:
        found = [spacing for region in regions if (spacing := _region_spacing(region, path))]
        # Where regions differ, no one number holds for the whole picture.
        agree = all(abs(own / first - 1) < _AGREE for one in found for own, first in zip(one, found[0], strict=True))
        return found[0] if found and agree else None
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        element = dataset.get(keyword) and dataset[keyword]
        if element and element.VM == 2 and (spacing := _positive(*map(float, element.value))):
            return spacing
    return None


def _region_spacing(region: Any, path: Path) -> Spacing | None:
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    if region.get("RegionSpatialFormat") != _FLAT_PICTURE or units != (_CENTIMETRES, _CENTIMETRES):
        return None
    deltas = [abs(float(region.get(f"PhysicalDelta{axis}", 0))) for axis in "YX"]
    require_fair_numbers(deltas, "PhysicalDelta", path)
    return _positive(10 * deltas[0], 10 * deltas[1])


def _positive(rows: float, columns: float) -> Spacing | None:
    return (rows, columns) if min(rows, columns) > 0 else None


def _identity_key(dataset: Any, keyword: IdentityKeyword) -> str | None:
    """Compare patients without reading who they are: the element's bytes are never made text.

    None where it is empty, or holds what anonymisers write for everybody.
    """
    value = getattr(dataset.get_item(keyword), "value", None) or b""
    content = value if isinstance(value, bytes) else str(value).encode()
    words = _WORD.findall(content.lower().replace(b"n/a", b"na"))
    if all(word in _OF_EVERYBODY or not word.strip(b"0x") for word in words):
        return None
    return blake2b(content.strip(b" \0"), key=_SECRET, digest_size=16).hexdigest()
