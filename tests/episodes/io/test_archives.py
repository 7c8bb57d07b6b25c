"""Archives as they are distributed, and as nobody should send them."""

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.errors import DatasetError, StorageError, UserError
from episodes.io.archives import ArchiveLimits, unpack

FILES = {"BUSI/benign/a.png": b"image", "BUSI/benign/a_mask.png": b"mask" * 1000, "BUSI/README.txt": b""}


def make_zip(path: Path, files: Mapping[str, bytes] = FILES, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: Mapping[str, bytes] = FILES, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_evil_tar(path: Path, **facts: object) -> Path:
    info = tarfile.TarInfo("a.png")
    for name, value in facts.items():
        setattr(info, name, value)
    with tarfile.open(path, "w") as archive:
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def found(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def require_nothing_left(folder: Path) -> None:
    """Neither the folder, nor a part of it, nor anything that was to be written outside."""
    assert not folder.exists()
    assert [p.name for p in folder.parent.iterdir() if p.is_dir()] == []


# What is distributed


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars(tmp_path: Path, mode: str) -> None:
    done = unpack(make_tar(tmp_path / "data.bin", mode=mode), tmp_path / "data")
    assert found(tmp_path / "data") == FILES
    assert (done.folder, done.files, done.size, done.left_out) == (tmp_path / "data", 3, 4005, 0)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips(tmp_path: Path, method: int) -> None:
    calls: list[tuple[int, int]] = []
    archive = make_zip(tmp_path / "data", method=method)
    unpack(archive, tmp_path / "new" / "data", progress=lambda done, total: calls.append((done, total)))
    assert found(tmp_path / "new" / "data") == FILES
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_what_a_desktop_adds_is_left_out(tmp_path: Path) -> None:
    clutter = {"__MACOSX/BUSI/._a.png": b"1", "BUSI/._a.png": b"2", "BUSI/.DS_Store": b"3", "BUSI/Thumbs.db": b"4"}
    for archive in (make_zip(tmp_path / "a.zip", FILES | clutter), make_tar(tmp_path / "a.tar", FILES | clutter)):
        folder = tmp_path / archive.suffix[1:]
        assert unpack(archive, folder).left_out == 4
        assert found(folder) == FILES


def test_folders_and_names_with_dots(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"empty/": b"", "./x/./a..b.png": b"1", "windows\\b.png": b"2"})
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert found(tmp_path / "out") == {"x/a..b.png": b"1", "windows/b.png": b"2"}
    assert (tmp_path / "out" / "empty").is_dir()


# What nobody should send


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/var/evil.png", "C:\\evil.png", "..\\evil.png"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    for archive in (make_zip(tmp_path / "a.zip", {name: b"x"}), make_tar(tmp_path / "a.tar", {name: b"x"})):
        with pytest.raises(DatasetError, match=rf"{archive.name}: '.*evil\.png' leads out of the folder; do not trust"):
            unpack(archive, tmp_path / "out")
        require_nothing_left(tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "target", "what"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "a link"),
        (tarfile.SYMTYPE, "b.png", "a link"),
        (tarfile.LNKTYPE, "../../b.png", "a link"),
        (tarfile.FIFOTYPE, "", "a device"),
        (tarfile.CHRTYPE, "", "a device"),
        (tarfile.BLKTYPE, "", "a device"),
    ],
)
def test_links_and_devices_in_tars(tmp_path: Path, kind: bytes, target: str, what: str) -> None:
    archive = make_evil_tar(tmp_path / "a.tar", type=kind, linkname=target)
    with pytest.raises(DatasetError, match=rf"a\.tar: 'a\.png' is {what}, which is not unpacked; unpack it by other"):
        unpack(archive, tmp_path / "out")
    require_nothing_left(tmp_path / "out")


@pytest.mark.parametrize(("kind", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device")])
def test_links_and_devices_in_zips(tmp_path: Path, kind: int, what: str) -> None:
    info = zipfile.ZipInfo("a.png")
    info.external_attr = (kind | 0o644) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DatasetError, match=rf"a\.zip: 'a\.png' is {what}, which is not unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    require_nothing_left(tmp_path / "out")


def test_everything_that_the_data_filter_refuses(tmp_path: Path) -> None:
    for number, facts in enumerate(
        ({"name": "../a"}, {"type": tarfile.SYMTYPE, "linkname": "../a"}, {"type": tarfile.FIFOTYPE})
    ):
        archive = make_evil_tar(tmp_path / f"{number}.tar", **facts)
        with tarfile.open(archive) as opened, pytest.raises(tarfile.FilterError):
            tarfile.data_filter(opened.getmembers()[0], str(tmp_path / "out"))
        with pytest.raises(DatasetError):
            unpack(archive, tmp_path / "out")


def test_a_name_that_comes_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", b"2")
    with pytest.raises(DatasetError, match=r"a\.zip: 'a\.png' comes twice; download it again"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    make_tar(tmp_path / "b.tar", {"a": b"a file", "a/b.png": b"a folder of the same name"})
    with pytest.raises(DatasetError, match=r"b\.tar: 'a/b\.png' comes twice"):
        unpack(tmp_path / "b.tar", tmp_path / "out")
    require_nothing_left(tmp_path / "out")


DEVICES = ["CON", "con.png", "Nul", "AUX.tar.gz", "prn .png", "COM1", "lpt9.png", "COM\u00b9.png", "CONIN$"]


@given(st.sampled_from(DEVICES), st.sampled_from(["{}", "set/{}", "{}/a.png", "set\\images\\{}"]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_names_that_are_devices_on_windows(name: str, place: str, is_tar: bool) -> None:
    with TemporaryDirectory() as folder:
        out, files = Path(folder) / "out", {"a.png": b"x", place.format(name): b"x"}
        archive = make_tar(out.with_name("a.tar"), files) if is_tar else make_zip(out.with_name("a.zip"), files)
        with pytest.raises(
            DatasetError, match=r"is a device's name on Windows, which is not unpacked; unpack it by ot"
        ):
            unpack(archive, out)
        require_nothing_left(out)


@pytest.mark.parametrize("name", ["CONTROL.png", "icon.png", "COM10.png", "null/aux1.png", "company/lpt.png", "a.con"])
def test_names_that_only_begin_or_end_like_devices(tmp_path: Path, name: str) -> None:
    unpack(make_zip(tmp_path / "a.zip", {name: b"x"}), tmp_path / "out")
    assert found(tmp_path / "out") == {name: b"x"}


TWO_FORMS = [("M\u00fc.png", "Mu\u0308.png"), ("M\u00fc/a.png", "Mu\u0308/b.png"), ("\u212b/a/b", "\u00c5/a/c")]


@pytest.mark.parametrize("names", TWO_FORMS)
@pytest.mark.parametrize("turned", [False, True])
def test_two_unicode_forms_of_a_name(tmp_path: Path, names: tuple[str, str], turned: bool) -> None:
    files = dict.fromkeys(names[::-1] if turned else names, b"x")
    for archive in (make_zip(tmp_path / "a.zip", files), make_tar(tmp_path / "a.tar", files)):
        with pytest.raises(DatasetError, match=rf"{archive.name}: '.+' comes in two Unicode forms of one name"):
            unpack(archive, tmp_path / "out")
        require_nothing_left(tmp_path / "out")


def test_one_unicode_form_alone(tmp_path: Path) -> None:
    files = {"Mu\u0308/a.png": b"x", "Mu\u0308/u\u0308.png": b"y", "\u00e4.png": b"z"}
    unpack(make_zip(tmp_path / "a.zip", files), tmp_path / "out")
    assert found(tmp_path / "out") == files


def test_names_are_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("episodes.io.archives._write", lambda *_: pytest.fail("a file was written"))
    for name in ("../b.png", "NUL", "\u00c5.png"):
        with pytest.raises(DatasetError):
            unpack(make_zip(tmp_path / "a.zip", {"\u212b.png": b"", "a.png": b"", name: b"x"}), tmp_path / "out")


def test_a_name_of_very_many_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is more than 100 folders deep, which is not unpacked"):
        unpack(make_zip(tmp_path / "a.zip", {"\u00fc/" * 20_000 + "a.png": b"x"}), tmp_path / "out")


# Bombs


def test_too_many_files(tmp_path: Path) -> None:
    files = {f"{number}.png": b"" for number in range(20)}
    for archive in (make_zip(tmp_path / "a.zip", files), make_tar(tmp_path / "a.tar", files)):
        with pytest.raises(DatasetError, match=r"holds more than 10 files; unpack it by other means if you trust it"):
            unpack(archive, tmp_path / "out", ArchiveLimits(files=10))
        require_nothing_left(tmp_path / "out")


@pytest.mark.parametrize("limits", [ArchiveLimits(size=100_000), ArchiveLimits(ratio=5, harmless=1000)])
def test_too_many_bytes(tmp_path: Path, limits: ArchiveLimits) -> None:
    files = {f"{number}.png": bytes(100_000) for number in range(3)}
    for archive in (make_zip(tmp_path / "a.zip", files), make_tar(tmp_path / "a.tgz", files)):
        with pytest.raises(
            DatasetError, match=rf"{archive.name}: \d+ bytes unpack to more than \d+, the limit for its"
        ):
            unpack(archive, tmp_path / "out", limits)
        require_nothing_left(tmp_path / "out")


def test_a_zip_that_understates_its_sizes(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.png": bytes(1_000_000)})
    content = archive.read_bytes().replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.zip: damaged \(.*\); download it again"):
        unpack(archive, tmp_path / "out")
    require_nothing_left(tmp_path / "out")


def test_a_tar_whose_name_fills_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 34
    archive = tmp_path / "a.tar"
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(DatasetError, match=r"a\.tar: damaged: a header states 17179869184 bytes"):
        unpack(archive, tmp_path / "out")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip")
    usage = type("Usage", (), {"free": 4000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match=r"4005 bytes are to be written, and 4000 are free; free some space"):
        unpack(archive, tmp_path / "out")
    require_nothing_left(tmp_path / "out")


# What is no archive, or half of one


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.zip: there is no such file; give a zip or tar archive"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
    for content in (b"", b"text" * 500, b"\x1f\x8b" + b"junk" * 100, b"\xfd7zXZ\x00" + b"junk" * 100):
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(DatasetError, match=r"a\.zip: is no zip or tar archive, or cut off; download it again"):
            unpack(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(DatasetError, match="holds no files"):
        unpack(make_zip(tmp_path / "b.zip", {}), tmp_path / "out")
    require_nothing_left(tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_tar_cut_off(tmp_path: Path, mode: str, share: float) -> None:
    noise = {f"{number}.png": os.urandom(30_000) for number in range(3)}
    archive = make_tar(tmp_path / "a.tar", noise, mode)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError, match=r"a\.tar: (damaged|is no zip or tar)"):
        unpack(archive, tmp_path / "out")
    require_nothing_left(tmp_path / "out")


def test_a_zip_with_a_flipped_byte(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.png": os.urandom(10_000)}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[5000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.zip: damaged \(Bad CRC-32 for file 'a\.png'\); download it again"):
        unpack(archive, tmp_path / "out")
    require_nothing_left(tmp_path / "out")


def test_a_file_without_a_name(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"x"}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    for mark, length, name in ((b"PK\x03\x04", 26, 30), (b"PK\x01\x02", 28, 46)):
        start = content.index(mark)
        content[start + length], content[start + name : start + name + 1] = 0, b""
    content[-6] -= 1  # the directory begins and ends a byte earlier
    content[-10] -= 1
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.zip: damaged \(a file has no name\); download it again"):
        unpack(archive, tmp_path / "out")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"x"}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flag in the file's own header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.zip: 'a\.png' is encrypted, which is not unpacked"):
        unpack(archive, tmp_path / "out")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"out: exists already; choose another name"):
        unpack(make_zip(tmp_path / "a.zip"), tmp_path / "out")


def test_killed_half_way(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", {f"{number}.png": os.urandom(1000) for number in range(300)}, "w")
    program = (
        "import sys, time; from pathlib import Path; from episodes.io.archives import unpack; "
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]), progress=lambda done, total: time.sleep(0.01))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(archive), str(tmp_path / "out")])  # noqa: S603
    while process.poll() is None and len(list(tmp_path.glob(".out.*.partial/*"))) < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (partial,) = tmp_path.glob(".out.*.partial")  # it was killed in the middle
    assert not (tmp_path / "out").exists()
    assert unpack(archive, tmp_path / "out").files == 300
    assert not partial.exists()
