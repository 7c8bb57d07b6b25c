"""Phantom datasets as `episodes.phantoms` writes them."""

from pathlib import Path

from episodes.datasets import folder
from episodes.errors import DatasetError, in_short
from episodes.io.yaml_json import JSONTextError, read_json
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
        described = read_json(description)
    except FileNotFoundError as error:
        raise DatasetError(
            f"{description} is missing, so this is no complete phantom dataset: generate it again, "
            "or read it as 'folder'"
        ) from error
    except (OSError, JSONTextError) as error:
        raise DatasetError(f"{description} is damaged ({in_short(error)}); generate the dataset again") from error
    scanner = described.get("scanner") if isinstance(described, dict) else None
    if not isinstance(scanner, str):
        raise DatasetError(f"{description} is damaged (scanner {scanner}); generate the dataset again")
    return folder.read(root, dataset=f"phantom-{scanner}")
