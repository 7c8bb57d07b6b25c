"""Images to segment: their files, and the size of their pixels."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path, PurePath

from episodes.datasets.files import READ_FORMATS, files_below, is_image_file, may_be_clip, why_unread
from episodes.datasets.folder_parts import IMAGE_FOLDERS, MASK_FOLDERS, parse_mask_name
from episodes.datasets.foreign_layouts import MASK_FOLDERS as FOREIGN_MASK_FOLDERS
from episodes.datasets.metadata import Metadata, find_metadata, read_metadata, report_doubtful_spacings
from episodes.errors import DatasetError, UserError
from episodes.images.decoding import read_frames
from episodes.images.dicom_header import NoPictureError, is_dicom, read_dicom_facts
from episodes.images.spacing import Spacing
from episodes.names import composed, numbered, printable, short_name
from episodes.records import frame_stem


@dataclass(frozen=True, slots=True)
class Input:
    """One image to segment."""

    path: Path  # the file
    frame: int | None  # which of its frames, from 1 on; None if it holds a single picture
    image: str  # how the file is called in tables: its path within the root, with slashes, `printable`
    # What files made from it are called, a path of their own without suffix; no two are alike, and any file system
    # takes them.
    name: str

    @property
    def key(self) -> tuple[str, int]:
        """Return the key of its row in a table; inputs are in the order of keys."""
        return self.image, self.frame or 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images to segment."""

    root: Path  # the folder that all of them lie in
    items: tuple[Input, ...]  # in the order of their paths and frames; at least one
    # Files that lie among them and look like pictures, but are none to segment; each with the reason.
    left_out: Mapping[Path, str] = field(default_factory=dict)

    def left_out_lines(self) -> list[str]:
        """Count what is left out by its reason, the first of each by name."""
        reasons = Counter(self.left_out.values())
        first = {why: path for path, why in reversed(list(self.left_out.items()))}
        subjects = {
            why: f"{first[why]} is" if count == 1 else f"{count} files, such as {first[why]}, are"
            for why, count in reasons.items()
        }
        return [f"{subject} left out: {why}" for why, subject in subjects.items()]


_MASK_FOLDERS = (*MASK_FOLDERS, *FOREIGN_MASK_FOLDERS)


def find_inputs(where: str, without: Sequence[Path] = ()) -> Inputs:
    """Find images.

    A file is taken as it is. A folder is searched with all below it, but for hidden files and folders, folders named
    `masks` or the like, and masks beside their images (`a_mask.png` of `a.png`). A pattern may hold `*`, `?`, `[...]`
    and `**`. Of files that hold several frames, as DICOM and TIFF may, each frame is an image. A link that leads
    nowhere is an image that cannot be read. Folders in `without` are not searched.

    Raises:
        UserError: if there is no such file, or no image among the files; says what was looked for.
    """
    path = Path(where)
    if path.is_file():
        root, files = path.parent, [path]
    elif path.is_dir():
        root, files = path, list(files_below(path, {one.resolve() for one in (*without, path)}))
    elif has_magic(where):
        root, files = _root_of(where), _matching(where)
    else:
        raise UserError(f"--images {where}: there is no such file or folder; check the path")
    left_out = {} if path.is_file() else {file: why for file in files if (why := why_unread(file))}
    files = [file for file in files if file not in left_out and (path.is_file() or is_image_file(file))]
    if path.is_dir():
        files, masks = _without_masks(path, files)
        left_out |= dict.fromkeys(masks, "named as a mask, or in a folder of masks")
    items, without_picture = _inputs(root, files)
    inputs = Inputs(root, items, left_out | without_picture)
    if not items:
        told = "".join(f"; {line}" for line in inputs.left_out_lines())
        raise UserError(f"--images {where}: no image there; {READ_FORMATS} were looked for{told}")
    return inputs


def _matching(pattern: str) -> list[Path]:
    found = sorted(glob(pattern, recursive=True))  # noqa: PTH207 - that of Path takes no absolute pattern
    return [path for path in map(Path, found) if not path.is_dir()]


def _root_of(pattern: str) -> Path:
    """Return the folder in which all that a pattern can match lies.

    >>> _root_of("data/2024-*/*.png").as_posix(), _root_of("*.png").as_posix()
    ('data', '.')
    """
    parts = PurePath(pattern).parts
    first = next(place for place, part in enumerate(parts) if has_magic(part))
    return Path(*parts[:first])


def _without_masks(root: Path, files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Part files that look like images from those that look like masks by their folder's name or their own."""
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, []).append(file)
    images: list[Path] = []
    masks: list[Path] = []
    for folder, inside in by_folder.items():
        of_masks = any(part.lower() in _MASK_FOLDERS for part in folder.relative_to(root).parts)
        stems = {frame_stem(file, None): 1 for file in inside}
        for file in inside:
            is_mask = of_masks or parse_mask_name(frame_stem(file, None), stems, same_name=False) is not None
            (masks if is_mask else images).append(file)
    return images, masks


def _inputs(root: Path, files: Iterable[Path]) -> tuple[tuple[Input, ...], dict[Path, str]]:
    """List every frame of every file, in order and named; and DICOM files that hold no picture, with the reason."""
    within = {file.relative_to(root): file for file in files}
    bare = Counter(_folded(_bare(path)) for path in within)
    taken: set[str] = set()
    called: set[str] = set()
    inputs: list[Input] = []
    without_picture: dict[Path, str] = {}
    for path in sorted(within, key=PurePath.as_posix):
        alone = bare[_folded(_bare(path))] == 1
        name = _bare(path) if alone else f"{_bare(path)}_{printable(path.suffix[1:].lower())}"
        try:
            frames = _frames(within[path])
        except NoPictureError as error:
            without_picture[within[path]] = str(error).partition(": ")[2]
            continue
        image = next(text for text in numbered(printable(path.as_posix())) if text not in called)
        called.add(image)
        for frame in frames:
            free = _free(name if frame is None else f"{name}-{frame:04d}", taken)
            inputs.append(Input(within[path], frame, image, free))
    return tuple(sorted(inputs, key=lambda one: one.key)), without_picture


def _frames(file: Path) -> Iterable[int | None]:
    """Return the frames of a file; of one that cannot be read, which is found out later, a single picture."""
    try:
        frames = read_frames(file) if may_be_clip(file) else 1
    except NoPictureError:
        raise
    except DatasetError:
        frames = 1
    return [None] if frames == 1 else range(1, frames + 1)


def _bare(path: PurePath) -> str:
    """Return a path without the suffix, with slashes, `printable`."""
    return PurePath(printable(path.as_posix())).with_name(frame_stem(Path(path), None)).as_posix()


def _folded(name: str) -> str:
    """Fold a name as file systems do that ignore case or compose accents."""
    return composed(name).casefold()


def _free(name: str, taken: set[str]) -> str:
    """Return the name, or the name with a number that nothing is called yet; parts that are too long are cut."""
    names = ("/".join(map(short_name, one.split("/"))) for one in numbered(name))
    free = next(one for one in names if _folded(one) not in taken)
    taken.add(_folded(free))
    return free


class Spacings:
    """Millimetres from pixel to pixel (row, column) of images.

    A table beside the images comes first, then what a DICOM file says of itself, then what holds for all others
    (`otherwise`). Sizes that no ultrasound image has are told and not used.

    Raises:
        DatasetError: if the table holds what is no size.
    """

    def __init__(self, table: Metadata | None, otherwise: Spacing | None = None) -> None:
        self._otherwise = otherwise
        self._stated = table.spacings() if table else {}
        self._doubts: set[str] = set()
        self._dicom: tuple[Path, Spacing | None] | None = None

    def of(self, image: Input) -> Spacing | None:
        """Return the spacing of an image, if it is known.

        Raises:
            DatasetError: if it is DICOM, and cannot be read.
        """
        for stem in (frame_stem(image.path, image.frame), frame_stem(image.path, None)):
            if stem in self._stated:
                return self._stated[stem]
        return self._of_file(image.path) or self._otherwise

    def _of_file(self, path: Path) -> Spacing | None:
        """Return what a file says of itself; kept for its other frames, which come next."""
        if self._dicom is None or self._dicom[0] != path:
            facts = read_dicom_facts(path) if is_dicom(path) else None
            if facts and facts.spacing_doubt and facts.spacing_doubt not in self._doubts:
                self._doubts.add(facts.spacing_doubt)
                report_doubtful_spacings(path.parent, {path.name: facts.spacing_doubt})
            self._dicom = path, facts.spacing if facts else None
        return self._dicom[1]


def read_metadata_beside(inputs: Inputs, table: Path | None = None) -> Metadata | None:
    """Read the table in a folder of images, or beside it if it is called `images` or the like, as the reader `folder`.

    Another table may be named in its place.

    Raises:
        DatasetError: if it cannot be read.
    """
    root = inputs.root
    places = [root, *([root.parent] if root.resolve().name.lower() in IMAGE_FOLDERS else [])]
    stems = {frame_stem(one.path, frame) for one in inputs.items for frame in (one.frame, None)}
    path = table or find_metadata(places, stems)
    return read_metadata(path) if path else None
