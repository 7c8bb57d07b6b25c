"""Phantom datasets as `episodes.phantoms` writes them."""

import json
from pathlib import Path

from episodes.datasets import folder
from episodes.errors import DatasetError
from episodes.phantoms.layouts import DESCRIPTION
from episodes.records import Record


def read(root: Path) -> list[Record]:
    """Read a generated dataset; it is named after its scanner, such as `phantom-linear`.

    Args:
        root: the folder that `prepare_phantoms` returned.

    Raises:
        DatasetError: if `phantom.json` is missing or damaged, or the folder is not as it was written.
    """
    description = root / DESCRIPTION
    try:
        scanner = json.loads(description.read_text(encoding="utf-8"))["scanner"]
    except FileNotFoundError as error:
        raise DatasetError(
            f"{description} is missing, so this is no complete phantom dataset: generate it again, "
            "or read it as 'folder'"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{description} is damaged ({error}); generate the dataset again") from error
    if not isinstance(scanner, str):
        raise DatasetError(f"{description} is damaged (scanner {scanner}); generate the dataset again")
    return folder.read(root, dataset=f"phantom-{scanner}")
