"""A folder of results: pictures, a table, and a summary of it."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.errors import DatasetError, StorageError, UserError
from episodes.images.decoding import stretch_labels
from episodes.images.regions import count_components
from episodes.io.files import csv_text, plain_cell, write_bytes, write_text
from episodes.names import printable
from episodes.scoring.mask_scores import dice
from fewshot.inference.inputs import Input
from fewshot.inference.predictor import ImagePrediction
from fewshot.predict.cases import ImageReader, ReadImage
from fewshot.results.numbers import EXACT
from fewshot.results.pictures import mask_png, overlay_png, probability_png

UNSURE_BELOW = 0.85
"""A mask of a lower `lesion_confidence` is flagged."""

UNLIKE_ABOVE = 1.0
"""An image of a higher novelty is flagged: 1 % of the training's own images would be."""


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """The measures of a mask."""

    area: int  # in pixels
    coverage: float  # share of the image, in [0, 1]
    components: int  # connected parts (8 neighbours)
    # Mean over all pixels of how sure the model is of what it says there: the probability of a lesion within the mask,
    # 1 minus that outside; in [0.5, 1].
    mean_confidence: float
    # Mean probability of a lesion within the mask, in [0.5, 1]: the precision that the model expects. NaN of an empty
    # mask. Of what was tried on BUS-UCLM (docs/prediction.md), this ranks masks best by their true Dice under every
    # model; the Dice that a model expects, 2 sum(p m) / (sum p + sum m), is misled by small probabilities everywhere.
    lesion_confidence: float


def mask_facts(mask: NDArray[np.bool_], probability: NDArray[np.floating]) -> MaskFacts:
    """Describe a mask (H, W) by itself and by the probabilities (H, W) that it was cut from."""
    area = int(np.count_nonzero(mask))
    inside, everywhere = (float(part.sum(dtype=np.float64)) for part in (probability[mask], probability))
    return MaskFacts(
        area=area,
        coverage=area / mask.size,
        components=count_components(mask),
        mean_confidence=(inside + (mask.size - area) - (everywhere - inside)) / mask.size,
        lesion_confidence=inside / area if area else float("nan"),
    )


def warnings_of(facts: MaskFacts, novelty: float | None = None) -> dict[str, str]:
    """Flag what a user should look at, and say why in plain words.

    The novelty (see `ImagePrediction`) is None where it is not known.

    Returns:
        `empty`, `unsure` and `unlike`, as far as they apply, each with its reason.

    >>> list(warnings_of(MaskFacts(900, 0.1, 1, 0.99, 0.6), novelty=1.2))
    ['unsure', 'unlike']
    """
    flags = {}
    if not facts.area:
        flags["empty"] = "no lesion was found"
    elif facts.lesion_confidence < UNSURE_BELOW:
        flags["unsure"] = f"the model is only {facts.lesion_confidence:.0%} sure of what it marked"
    if novelty is not None and novelty > UNLIKE_ABOVE:
        flags["unlike"] = "the image looks unlike those that the model has seen"
    return flags


Row = Mapping[str, str]

COLUMNS = (
    *("image", "frame", "mask", "width", "height"),
    *("area_px", "area_mm2", "components", "coverage", "mean_confidence", "lesion_confidence", "novelty"),
    *("p_normal", "p_benign", "p_malignant", "dice", "dice_full", "flags", "reason", "inputs"),
)
"""Of every table; empty where nothing is known. `inputs` is a hash of all files that a row was made from."""


def key_of(row: Row) -> tuple[str, int]:
    """Return the key of a row: the image, and which of its frames, 0 of a single picture."""
    return row["image"], int(row["frame"] or 0)


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a table, of which there may be none yet; what a killed process left of a line is left out.

    Raises:
        UserError: if it is no such table.
    """
    if not path.exists():
        return []
    try:
        whole, _, _ = path.read_bytes().decode().rpartition("\n")
        header, *lines = csv.reader(StringIO(whole, newline=""), strict=True) if whole else (list(COLUMNS),)
        rows: list[Row] = [dict(zip(COLUMNS, map(plain_cell, line), strict=True)) for line in lines]
        if tuple(header) != COLUMNS or not all(row["frame"].isdecimal() or not row["frame"] for row in rows):
            raise ValueError("other columns")
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: is no table of `fewshot predict` ({error}); remove it, or add --overwrite") from error
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a table whole, unless it is there already.

    Raises:
        StorageError: if it cannot be written.
    """
    text = table_text(rows)
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def table_text(rows: Iterable[Row]) -> str:
    """Format a whole table as CSV."""
    return csv_text([COLUMNS, *(tuple(row[column] for column in COLUMNS) for row in rows)])


def add_row(path: Path, row: Row) -> None:
    """Write one more row, and hand it to the system at once.

    Raises:
        StorageError: if it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(csv_text([tuple(row[column] for column in COLUMNS)]))
    except OSError as error:
        raise StorageError.of(path, error) from error


def picture_paths(name: str, *, npy: bool) -> tuple[Path, Path, Path]:
    """Return where the mask, the probabilities and the overlay of an image lie within the folder of results."""
    probabilities = Path("probabilities", f"{name}.{'npy' if npy else 'png'}")
    return Path("masks", f"{name}.png"), probabilities, Path("overlays", f"{name}.png")


def row_of(case: ReadImage, found: ImagePrediction) -> Row:
    """Return the row of an image."""
    height, width = case.image.shape
    facts = mask_facts(found.mask, found.probability)
    flags = warnings_of(facts, found.novelty)
    area = None if case.spacing is None else facts.area * case.spacing[0] * case.spacing[1]
    return {
        "image": case.input.image,
        "frame": "" if case.input.frame is None else str(case.input.frame),
        "mask": picture_paths(case.input.name, npy=False)[0].as_posix(),
        "width": str(width),
        "height": str(height),
        "area_px": str(facts.area),
        "area_mm2": EXACT.number(area, 3),
        "components": str(facts.components),
        "coverage": EXACT.number(facts.coverage),
        "mean_confidence": EXACT.number(facts.mean_confidence),
        "lesion_confidence": EXACT.number(facts.lesion_confidence),
        "novelty": EXACT.number(found.novelty, 3),
        **{f"p_{label}": EXACT.number(found.labels.get(label)) for label in ("normal", "benign", "malignant")},
        "dice": EXACT.number(_working_dice(case, found)),
        "dice_full": EXACT.number(None if case.truth is None else dice(found.mask, case.truth)),
        "flags": " ".join(flags),
        "reason": "; ".join(flags.values()),
        "inputs": case.inputs,
    }


def _working_dice(case: ReadImage, found: ImagePrediction) -> float | None:
    """Score as the benchmark does: at the working size."""
    if case.truth is None:
        return None
    size = found.working.mask.shape
    truth = stretch_labels(case.truth.astype(np.uint8), (size[0], size[1])) > 0
    return dice(found.working.mask, truth)


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


TABLE, FAILED, LEFT_OUT = "predictions.csv", "failed.csv", "left_out.csv"


class ResultFolder:
    """A folder with the results of images, whose row is written after their pictures: where it is, they are.

    With `npy` probabilities are NumPy's files.

    Raises:
        UserError: if its table is none of ours.
        StorageError: here and in its methods, if something cannot be written.
    """

    def __init__(self, path: Path, *, npy: bool) -> None:
        self.path = path
        self.npy = npy
        self._rows = {key_of(row): row for row in read_rows(path / TABLE)}
        write_rows(path / TABLE, self._rows.values())  # without what a killed process left of a line

    @property
    def rows(self) -> list[Row]:
        """Return all rows, by image and frame."""
        return [self._rows[key] for key in sorted(self._rows)]

    def has(self, one: Input, reader: ImageReader) -> bool:
        """Tell whether the results of an image are there, and nothing that they were made from has changed since."""
        row = self._rows.get(one.key)
        mask, *others = picture_paths(one.name, npy=self.npy)
        if row is None or row["mask"] != mask.as_posix():
            return False
        try:
            unchanged = row["inputs"] == reader.hash(one)
        except DatasetError:
            return False
        pictures = [self.path / picture for picture in (mask, *others)]
        return unchanged and all(picture.is_file() and picture.stat().st_size for picture in pictures)

    def write(self, predicted: tuple[ReadImage, ImagePrediction]) -> Row:
        """Write the pictures of an image, and return its row, which is to be added; several threads may do this."""
        case, found = predicted
        contents = (
            mask_png(found.mask, found.label_map),
            _npy(found.probability) if self.npy else probability_png(found.probability),
            overlay_png(case.image, found.mask, found.label_map),
        )
        for path, content in zip(picture_paths(case.input.name, npy=self.npy), contents, strict=True):
            write_bytes(self.path / path, content, durable=False)  # `has` notices what a loss of power left empty
        return row_of(case, found)

    def add(self, row: Row) -> None:
        """Add the row of an image whose pictures are written."""
        add_row(self.path / TABLE, row)
        self._rows[key_of(row)] = row

    def list_left_out(self, left_out: Mapping[Path, str]) -> None:
        """List the files that are neither images nor masks of any, each with the reason; no file stays without any."""
        self._list(LEFT_OUT, ("file", "reason"), ((printable(str(path)), why) for path, why in left_out.items()))

    def _list(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        if lines := list(rows):
            write_text(self.path / name, csv_text([columns, *lines]))
        else:
            (self.path / name).unlink(missing_ok=True)

    def finish(self, failed: Mapping[Input, str]) -> None:
        """Put the rows in order, and list the images that could not be read."""
        for one in failed:
            self._rows.pop(one.key, None)
        write_rows(self.path / TABLE, self.rows)
        rows = ((one.image, one.frame or "", reason) for one, reason in failed.items())
        self._list(FAILED, ("image", "frame", "reason"), rows)


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a prediction."""

    folder: Path  # of the results
    rows: Sequence[Row]  # of its table
    n_images: int  # that were asked for
    failed: Mapping[Input, str]  # those that could not be read, each with the reason

    def lines(self) -> list[str]:
        """Return what a user is told."""
        flags = [flag for row in self.rows for flag in row["flags"].split()]
        flagged = [f"{flags.count(flag)} {flag}" for flag in ("empty", "unsure", "unlike") if flag in flags]
        told = f" ({', '.join(flagged)})" if flagged else ""
        dice = [float(row["dice"]) for row in self.rows if row["dice"]]
        scored = f"Lesion Dice {sum(dice) / len(dice):.4f}, mean over {len(dice)} images with a lesion" if dice else ""
        return [f"{len(self.rows)} images{told}", *([scored] if scored else []), str(self.folder / TABLE)]

    def require_all_read(self) -> None:
        """Say which images could not be read, if any.

        Raises:
            UserError: names the first.
        """
        if self.failed:
            first = next(iter(self.failed.values()))
            raise UserError(
                f"{len(self.failed)} of {self.n_images} images could not be read: {first}"
                + (f"; all are listed in {self.folder / FAILED}" if len(self.failed) > 1 else "")
            )
