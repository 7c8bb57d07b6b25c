"""`prediction.json`: which model made the results of a folder, from which support set and with which options."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from episodes.episode import Support
from episodes.errors import UserError
from episodes.files import remove_folder, write_text
from episodes.json_text import JSONTextError, read_json
from fewshot.data.support_folder import image_hashes, support_hashes

FACTS = "prediction.json"
NOTICE = "Research only, not for clinical use."


def support_facts(support: Support | None) -> dict[str, Any] | None:
    """By which a support set is known again: its images and masks at the working size."""
    if support is None:
        return None
    masks = (support.masks.flatten(0, 1) > 0).byte().cpu().numpy()
    return {"images": list(support.ids[0]), "hashes": support_hashes(support), "masks": image_hashes(masks)}


def require_same(out: Path, facts: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Refuse a folder that holds anything but results of the same facts.

    Args:
        out: the folder.
        facts: of the prediction to come.
        overwrite: whether results of others may be deleted; nothing else ever is.

    Returns:
        Whether there are results that may stay; other ones, which must go, are left to `begin`.

    Raises:
        UserError: says what is there.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    found = _read(out / FACTS)
    if found is None:
        raise UserError(f"{out}: holds something that `fewshot predict` did not write; give another folder")
    if overwrite:
        return False
    if differing := [key for key in dict.fromkeys((*facts, *found)) if facts.get(key) != found.get(key)]:
        raise UserError(
            f"{out}: holds results that differ in {', '.join(differing)}; give another folder, or add --overwrite"
        )
    return True


def begin(out: Path, facts: Mapping[str, Any]) -> None:
    """Make a folder of results anew, in place of what was there.

    Raises:
        StorageError: if it cannot be written.
    """
    remove_folder(out)
    write_text(out / FACTS, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        found = read_json(path)
    except (OSError, JSONTextError):
        return None
    return found if isinstance(found, dict) and found.get("notice") == NOTICE else None
