"""Images and masks in the layouts of real datasets: files of pixels that are damaged, cut or of another kind."""

import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from episodes.datasets import read_dataset
from episodes.images.decoding import read_image
from episodes.phantoms.layouts import write_bus_uclm, write_busi, write_folder, write_udiat
from episodes.phantoms.population import Phantom, PhantomSpec, generate
from episodes.records import Record
from tests.episodes.made_pictures import read_label_map
from tests.fuzz.mutations import damaged
from tests.fuzz.watched import fuzzing, require_read_or_refused

Write = Callable[[Iterable[Phantom], Path], None]
LAYOUTS: dict[str, Write] = {
    "folder": write_folder,
    "busi": write_busi,
    "bus_uclm": write_bus_uclm,
    "udiat": write_udiat,
}


@dataclass(frozen=True, repr=False)
class Dataset:
    """A dataset on disk, and what its files are like when they are whole."""

    reader: str
    root: Path
    records: tuple[Record, ...]

    @property
    def pictures(self) -> list[Path]:
        return sorted({path for record in self.records for path in (record.image, *record.masks)})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    phantoms = list(generate(PhantomSpec("linear", 16, size=64)))
    found = {}
    for reader, write in LAYOUTS.items():
        root = tmp_path_factory.mktemp(reader)
        write(phantoms, root)
        found[reader] = Dataset(reader, root, tuple(read_dataset(reader, root)))
    return found


def decode(records: Iterable[Record]) -> None:
    for record in records:
        image = read_image(record.image)
        label_map = read_label_map(record, (image.shape[0], image.shape[1]))
        assert image.dtype == label_map.dtype == np.uint8
        assert image.shape == label_map.shape


def require_sane(dataset: Dataset, changed: Path, content: bytes) -> None:
    """Damage one picture, decode what is made of it, and put it back."""
    whole = changed.read_bytes()
    records = [record for record in dataset.records if changed in (record.image, *record.masks)]
    named = [path for record in records for path in (record.image, *record.masks)]
    changed.write_bytes(content)
    try:
        require_read_or_refused(lambda: decode(records), *named)
    finally:
        changed.write_bytes(whole)


def encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def test_the_files_are_read_as_they_are(datasets: dict[str, Dataset]) -> None:
    for dataset in datasets.values():
        decode(dataset.records)


@fuzzing(200)
@given(st.sampled_from(sorted(LAYOUTS)), st.data())
def test_damaged_pictures(datasets: dict[str, Dataset], reader: str, data: st.DataObject) -> None:
    dataset = datasets[reader]
    path = data.draw(st.sampled_from(dataset.pictures))
    require_sane(dataset, path, data.draw(damaged(path.read_bytes())))


@fuzzing(150)
@given(st.sampled_from(("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM", "TGA", "ICO", "PCX")), st.data())
def test_damaged_pictures_of_every_format(datasets: dict[str, Dataset], kind: str, data: st.DataObject) -> None:
    dataset = datasets["folder"]
    path = data.draw(st.sampled_from(dataset.pictures))
    mode = data.draw(st.sampled_from(("L", "RGB", "P", "1")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = Image.open(path).convert(mode)
    supported = {"JPEG": "L", "PCX": "L", "PPM": "L", "ICO": "RGB", "TGA": "L", "WEBP": "RGB"}
    whole = encoded(picture.convert(supported.get(kind, mode)), kind)
    require_sane(dataset, path, data.draw(damaged(whole)))


@fuzzing(100)
@given(
    st.sampled_from(("L", "LA", "RGB", "RGBA", "P", "1", "I;16", "I", "F", "CMYK", "YCbCr", "LAB", "HSV")),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(0, 255),
    st.data(),
)
def test_pictures_of_every_mode_and_size(
    datasets: dict[str, Dataset], mode: str, size: tuple[int, int], grey: int, data: st.DataObject
) -> None:
    dataset = datasets[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    path = data.draw(st.sampled_from(dataset.pictures))
    kind = "TIFF" if mode in ("F", "I", "CMYK", "YCbCr", "LAB", "HSV") else "PNG"
    picture = Image.new(mode if mode != "HSV" else "RGB", size, grey if mode not in ("F", "I;16", "I") else grey * 257)
    require_sane(dataset, path, encoded(picture, kind))


@fuzzing(60)
@given(st.data())
def test_damaged_pictures_of_real_datasets(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    real = sorted((shared_data / "native").glob("*/*/*.png"))[::7]
    if not real:
        pytest.skip("no real pictures there")
    original = data.draw(st.sampled_from(real))
    path = tmp_path_factory.getbasetemp() / "real.png"
    path.write_bytes(data.draw(damaged(original.read_bytes())))
    require_read_or_refused(lambda: read_image(path), path)


# Found by hand, and by searching longer


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (0, 8), (1, 2**30)])
def test_a_picture_that_says_it_is_huge(datasets: dict[str, Dataset], size: tuple[int, int]) -> None:
    """A PNG of a few bytes may say that it has 10 gigapixels."""
    dataset = datasets["folder"]
    path = dataset.records[0].image
    content = bytearray(path.read_bytes())
    content[16:24] = b"".join(side.to_bytes(4, "big") for side in size)
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    require_sane(dataset, path, bytes(content))
