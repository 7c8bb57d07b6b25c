"""Dataset readers: a root folder goes in, a list of records comes out. One file per dataset.

A reader is one function. To read a dataset of your own layout, write such a function in a file of yours and
name it `module:function` wherever a dataset's name is asked for.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType

from episodes.datasets.problems import listed_problems, report_problem
from episodes.errors import DatasetError
from episodes.images.grey_scales import with_full_scales
from episodes.records import Record, repeated_ids

Reader = Callable[[Path], list[Record]]

# Imported only when asked for: a reader may need an optional library.
READERS: Mapping[str, str] = {
    "busi": "episodes.datasets.busi:read",
    "bus_uclm": "episodes.datasets.bus_uclm:read",
    "bus_bra": "episodes.datasets.bus_bra:read",
    "udiat": "episodes.datasets.udiat:read",
    "breast_usg": "episodes.datasets.breast_usg:read",
    "folder": "episodes.datasets.folder:read",
    "phantom": "episodes.datasets.folder:read_phantoms",
}


def import_own(module: str) -> ModuleType:
    """Import a module that a user named, as `module:attribute`, in a configuration or on the command line.

    It may lie in the working directory, which is searched last, and for this alone: files that came with data would run
    if they could stand in for libraries.
    """
    here = str(Path.cwd())
    if here in sys.path:
        return import_module(module)
    sys.path.append(here)
    try:
        return import_module(module)
    finally:
        sys.path.remove(here)


def find_reader(name: str) -> Reader:
    """Import the reader that is registered under a name in `READERS`, or that lies at `module:function`.

    Raises:
        DatasetError: if there is no such reader; the message names the nearest valid names.

    >>> find_reader("busi").__module__
    'episodes.datasets.busi'
    """
    target = READERS.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not (colon and module_name and attribute):
        nearest = get_close_matches(name, READERS, n=2, cutoff=0.5)
        meant = f"did you mean {' or '.join(nearest)}?" if nearest else f"choose from {', '.join(READERS)}"
        raise DatasetError(f"there is no dataset reader {name!r}: {meant} (your own is named module:function)")
    try:
        module = import_module(module_name) if name in READERS else import_own(module_name)
        reader = getattr(module, attribute)
    except ImportError as error:
        raise DatasetError(f"the dataset reader {name!r} cannot be imported: {error}") from error
    except AttributeError as error:
        raise DatasetError(f"the module {module_name!r} has no function {attribute!r}") from error
    if not callable(reader):
        raise DatasetError(f"the dataset reader {name!r} is not a function but a {type(reader).__name__}")
    return reader  # type: ignore[no-any-return]


def read_dataset(name: str, root: Path, *, invert_masks: bool = False) -> list[Record]:
    """Read a dataset's records from a folder that holds it in its native layout; the name is that of `find_reader`.

    There is at least one record, but inside `collected_problems`; they are sorted by id, and the ids are unique. Images
    of more than 8 bits have one full scale, for which all of them are decoded. Masks that are inverted have a light
    ground and dark lesions.

    Raises:
        DatasetError: if the folder is not there or not what the reader expects, or masks that say the class by colour
            are to be inverted.
    """
    reader = find_reader(name)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"{root} {what}: give the folder that holds the dataset {name}")
    try:
        records = sorted(reader(root), key=lambda record: record.id)
    except OSError as error:  # names the file
        raise DatasetError(f"{root} cannot be read: {error}; check that you may read it") from error
    if not records and not listed_problems():
        raise DatasetError(f"{root}: the reader {name} found no image there")
    for record, message in repeated_ids(records):
        report_problem("name taken twice", record.image, message)
    if invert_masks:
        if any(record.mask_format == "colour" for record in records):
            raise DatasetError(
                f"{root}: the masks of {name} say the class by colour, and have no inverse; do not invert"
            )
        records = [replace(record, mask_format="inverted") for record in records]
    # The first that bears an id is kept.
    return with_full_scales(list({record.id: record for record in reversed(records)}.values())[::-1])
