"""What comes from a hospital or a download page: DICOM files and archives, damaged or made to do harm."""

import shutil
import tarfile
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.images.decoding import read_frames, read_image
from episodes.io.archives import ArchiveLimits, unpack
from tests.fuzz.mutations import EXTREMES, damaged
from tests.fuzz.watched import fuzzing, require_read_or_refused

pytest.importorskip("pydicom")

from tests.episodes.made_dicom import gradient, region, write_dicom

NAMES = ("a.png", "b/c.png", "../up.png", "/root.png", "b", "a.png/d", "x" * 300, "nul\x00.png", "é.png", "c\\d", "")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """DICOM files of several kinds."""
    folder = tmp_path_factory.mktemp("dicom")
    grey = gradient()
    kinds = (
        write_dicom(folder / "grey.dcm", grey, facts={"SequenceOfUltrasoundRegions": [region(0.01, 0.01)]}),
        write_dicom(folder / "signed.dcm", grey.astype(np.int16), "MONOCHROME1", bits=12),
        write_dicom(folder / "colour.dcm", np.stack([grey] * 3, axis=-1), "RGB"),
        write_dicom(folder / "clip.dcm", np.stack([grey] * 3)),
    )
    return [path.read_bytes() for path in kinds]


@fuzzing(200)
@given(st.data())
def test_damaged_dicom_files(images: list[bytes], place: Path, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(images))
    path = place / "damaged.dcm"
    path.write_bytes(data.draw(damaged(whole)))
    require_dicom_sane(path)


@fuzzing(150)
@given(st.data())
def test_dicom_files_with_extreme_values(images: list[bytes], place: Path, data: st.DataObject) -> None:
    """Lengths, sizes and counts lie behind the first 132 bytes, in two or four bytes each."""
    content = bytearray(data.draw(st.sampled_from(images)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(132, len(content) - 8)) & ~1
        value = data.draw(st.sampled_from(EXTREMES))
        content[at : at + len(value)] = value
    path = place / "damaged.dcm"
    path.write_bytes(content)
    require_dicom_sane(path)


def require_dicom_sane(path: Path) -> None:
    def read() -> None:
        frame = read_frames(path) if read_frames(path) > 1 else None
        assert read_image(path, frame).dtype == np.uint8

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of much that it mends
        require_read_or_refused(read, path)


def zipped(names: list[str], content: bytes) -> bytes:
    archive = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        warnings.simplefilter("ignore")  # of names that come twice
        for name in names:
            file.writestr(name or "empty", content)
    return archive.getvalue()


def tarred(names: list[str], content: bytes, kind: str, types: list[bytes]) -> bytes:
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode=f"w:{kind}") as file:  # type: ignore[call-overload]
        for name, type_ in zip(names, types, strict=True):
            member = tarfile.TarInfo(name or "empty")
            member.type, member.linkname = type_, "../outside"
            member.size = len(content) if type_ == tarfile.REGTYPE else 0
            file.addfile(member, BytesIO(content))
    return archive.getvalue()


@fuzzing(75)
@given(st.data())
def test_archives_with_evil_names_and_damaged_bytes(place: Path, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5))
    kind = data.draw(st.sampled_from(("zip", "", "gz", "xz", "bz2")))
    content = data.draw(st.binary(max_size=200))
    if kind == "zip":
        whole = zipped(names, content)
    else:
        types = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
        chosen = data.draw(st.lists(st.sampled_from(types), min_size=len(names), max_size=len(names)))
        whole = tarred(names, content, kind, chosen)
    require_unpacked_inside(place, data.draw(st.one_of(st.just(whole), damaged(whole))))


def test_a_folder_whose_name_is_too_long(place: Path) -> None:
    """Found by searching longer: folders were made without a word for what the system refuses."""
    require_unpacked_inside(place, tarred(["x" * 300], b"", "gz", [tarfile.DIRTYPE]))


def require_unpacked_inside(place: Path, content: bytes) -> None:
    """Whatever is in an archive, it is written into its folder whole or not at all."""
    room = place / "room"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    archive, folder = room / "archive", room / "unpacked"
    archive.write_bytes(content)
    read = require_read_or_refused(lambda: unpack(archive, folder, ArchiveLimits(size=2**20)), archive, folder)
    left = {path.name for path in room.iterdir() if not path.name.endswith(".lock")}
    assert left == ({"archive", "unpacked"} if read else {"archive"})
    assert not any(path.is_symlink() for path in room.rglob("*"))
