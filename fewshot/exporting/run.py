"""`fewshot export`: from a checkpoint and a support folder to an ONNX file that is known to compute the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from episodes.episode import Support
from episodes.errors import UserError
from episodes.files import file_hash, written_whole
from fewshot import __version__
from fewshot.assessment.members import Member, load_members
from fewshot.data.support_folder import load_support_folder
from fewshot.exporting.baked import Baked, adapted_member
from fewshot.exporting.onnx_file import require_same, trial_images, write_onnx
from fewshot.prediction.facts import NOTICE, support_facts

_CPU = torch.device("cpu")
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be exported.

    Attributes:
        checkpoint: of the network.
        support: a folder of annotated images to adapt to; None to use the method without any.
        method: its name as in a benchmark; None for the one that goes with the network.
        shots: how many of the annotated images, the first by name; None for all.
        options: of the method.
    """

    checkpoint: Path
    support: Path | None = None
    method: str | None = None
    shots: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def export_checkpoint(request: Request, out: Path, *, overwrite: bool = False) -> float:
    """Adapt a method, and write it as ONNX if what was written computes the same.

    Args:
        request: what to export.
        out: the file, which ends in `.onnx`.
        overwrite: replace an existing file.

    Returns:
        The largest difference from the original that was found.

    Raises:
        UserError: if a package is missing, the file exists or has another suffix, the method needs annotated images or
            uses none, takes what it knows from source datasets, or cannot be exported; or if the export differs.
    """
    require_packages()
    require_free(out, overwrite=overwrite)
    (member,) = load_members(
        [request.checkpoint], request.method, request.options, _CPU, with_support=request.support is not None
    )
    size = member.image_size
    support = None if request.support is None else load_support_folder(request.support, size, request.shots)
    baked = Baked(adapted_member(member, support))
    images = trial_images(size) if support is None else torch.cat([trial_images(size), support.images.flatten(0, 1)])
    facts = _facts(request, member, support)
    with written_whole(out) as partial:
        write_onnx(baked, size, partial, facts)
        return require_same(partial, baked, images, out)


def require_packages() -> None:
    """Refuse to begin without what writes and runs ONNX.

    Raises:
        UserError: names the missing packages.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise UserError(f"{', '.join(missing)}: not installed; pip install 'fewshot-bus[export]'")


def require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that exists, or is named as another kind.

    Raises:
        UserError: says which.
    """
    if out.suffix != ".onnx":
        raise UserError(f"{out}: ONNX is written; give a name that ends in .onnx")
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; give another --out, or replace it with --overwrite")


def _facts(request: Request, member: Member, support: Support | None) -> dict[str, str]:
    """The file's metadata, by key; values that are no text are JSON."""
    kind = type(member.method)
    return {
        "notice": NOTICE,
        "fewshot_version": __version__,
        "checkpoint_sha256": file_hash(request.checkpoint),
        "network": str(member.facts["model"]["network"]),
        "method": request.method or f"{kind.__module__}:{kind.__qualname__}",
        "options": json.dumps(dict(request.options), sort_keys=True, default=str),
        "image_size": str(member.image_size),
        "input": "images: float32 (n, 3, H, W) in [0, 1], grey in all three channels, stretched to image_size",
        "classes": json.dumps(["background", *member.classes]),
        "labels": json.dumps(member.labels),
        "support": json.dumps(support_facts(support)),
    }
