"""Which files are DICOM, how one is opened, and what is said of one that cannot be read."""

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from episodes.errors import DatasetError

SUFFIXES = frozenset({".dcm", ".dicom"})

_PREAMBLE = 128
_MARK = b"DICM"
# It would be inflated whole, to whatever size, before anything in it can be checked.
_DEFLATED = "1.2.840.10008.1.2.1.99"
_OF_PYDICOM = r"pydicom(\.|$)"
_PLUGINS = "`pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg`"


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its suffix or, where it has none, by the mark `DICM` after 128 bytes.

    Scanners name files `IM_0001`, or by a number such as `1.2.840.113619.2.55.3`, whose last part is no suffix. The
    directory of an exported medium, `DICOMDIR`, holds no image and counts as none.

    Raises:
        OSError: if it has no suffix and cannot be opened.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    return not path.suffix.strip(".0123456789") and has_mark(path)


def has_mark(path: Path) -> bool:
    """Whether the file begins as DICOM files do (PS3.10, section 7.1)."""
    with path.open("rb") as file:
        return file.read(_PREAMBLE + len(_MARK))[_PREAMBLE:] == _MARK


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in one line what is wrong where reading a file fails.

    Of pydicom's errors and warnings the kind alone is passed on: their texts may quote values of the file.

    Raises:
        DatasetError: in place of every other exception.
    """
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; restore the original file") from error
    except OSError as error:
        reason = error.strerror or "cut off or damaged"
        raise DatasetError(f"{path} cannot be decoded ({reason}); restore the original file") from None
    except Exception as error:  # on damaged files pydicom raises errors of many types
        kind = type(error).__name__
        raise DatasetError(f"{path} cannot be decoded as DICOM ({kind}); restore the original file") from None


def read_header(file: BinaryIO, path: Path, keywords: Collection[str]) -> Any:
    """Read named elements up to the pixels, and no others; the file is left where the pixels begin.

    Returns:
        A pydicom `Dataset` of these elements, with its `file_meta`.

    Raises:
        DatasetError: if the file is not DICOM, or its transfer syntax cannot be read here.
    """
    load_pydicom(path)
    from pydicom import dcmread

    if not has_mark(path):
        raise DatasetError(f"{path} is no DICOM file: the mark DICM is missing; restore the original file")
    _require_known_syntax(path)
    return dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))


def _require_known_syntax(path: Path) -> None:
    """Refuse what cannot be decoded before anything else of the file is read."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.pixels.decoders.base import get_decoder

    syntax = read_file_meta_info(path).get("TransferSyntaxUID")
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


def load_pydicom(path: Path) -> None:
    """Import pydicom, silently from then on.

    Raises:
        DatasetError: if it is not installed.
    """
    _silence()
    try:
        _load()
    except ImportError as error:
        raise DatasetError(f"{path}: DICOM needs pydicom: run `pip install 'fewshot-bus[data]'`") from error


@cache
def _load() -> None:
    import pydicom  # noqa: F401 - the first import takes a while


def _silence() -> None:
    """Keep pydicom's warnings back: they may quote values, and what they warn of is checked here or harmless."""
    if not any(getattr(module, "pattern", None) == _OF_PYDICOM for _, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=_OF_PYDICOM)
