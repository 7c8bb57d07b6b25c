"""`fewshot evaluate`: from checkpoints and a dataset's folder to a folder of scores, figures and masks."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.errors import UserError
from episodes.records import Record
from fewshot.assessment.files import write_cases, write_figures, write_numbers
from fewshot.assessment.inference import Maps, predict_records
from fewshot.assessment.subject import load_members, unseen_records
from fewshot.assessment.summary import Assessment, assess
from fewshot.checkpoints import load_checkpoint
from fewshot.config import DataConfig
from fewshot.data import open_store
from fewshot.devices import choose_device
from fewshot.figures.maps import write_map, write_mask
from fewshot.parsing import parse_config
from fewshot.progress import Reporter
from fewshot.support_folder import load_support_folder


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be judged.

    Attributes:
        checkpoints: one, or several whose mean is judged.
        data: the dataset's folder.
        reader: of the dataset: a name, or `module:function`.
        name: the dataset's name in the configuration that the checkpoints were trained by.
        part: `test`, what the checkpoints were not trained on, or `all`.
        method: how the checkpoints are used; None for what goes with the network.
        options: of the method.
        support: folder of annotated images to adapt to.
        shots: how many of them; None for all.
    """

    checkpoints: Sequence[Path]
    data: Path
    reader: str
    name: str
    part: str = "test"
    method: str | None = None
    options: Mapping[str, Any] | None = None
    support: Path | None = None
    shots: int | None = None


def evaluate_checkpoints(request: Request, out: Path, reporter: Reporter, *, overwrite: bool = False) -> Assessment:
    """Judge checkpoints on a dataset and write the results' folder, whole.

    The folder gets `evaluation.json` (every number), `evaluation.md`, `images.csv`, the figures `roc_pixels.png`,
    `roc_images.png`, `confusion.png`, `calibration.png`, `training.png` and `cases.png` as far as they apply, `masks/`
    and, of several predictions, `uncertainty/` (entropy, 16 bits a pixel), both at the working size.

    Args:
        request: what is judged.
        out: the folder to write; must not exist.
        reporter: shows progress.
        overwrite: replace it if it does.

    Raises:
        UserError: if the folder exists, or for whatever is wrong with checkpoints, data or options.
    """
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; give another folder, or add --overwrite")
    device = choose_device("auto")
    size = int(load_checkpoint(request.checkpoints[0]).facts["image_size"])
    folder_of = load_support_folder(request.support, size, request.shots) if request.support else None
    support = None if folder_of is None else folder_of.to(device)
    members = load_members(request.checkpoints, request.method, request.options or {}, support, device)
    tree = {"datasets": {request.name: {"reader": request.reader, "root": request.data}}, "image_size": size}
    store = open_store(parse_config(tree, DataConfig, "evaluate"), request.name, reporter)
    records = unseen_records(store, members, request.part)

    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "masks").mkdir(parents=True)
    try:

        def keep(record: Record, maps: Maps) -> None:
            write_mask(partial / "masks" / f"{record.image.stem}.png", maps.mask)
            if maps.disagreement.any():
                (partial / "uncertainty").mkdir(exist_ok=True)
                write_map(partial / "uncertainty" / f"{record.image.stem}.png", maps.entropy)

        with reporter.step(f"evaluate on {request.name}") as update:
            predicted = predict_records(members, store, records, device, on_image=keep, progress=update)
            assessment = assess(predicted, members[0].classes, members[0].labels)
        with reporter.step("figures"):
            write_numbers(partial, assessment, predicted, about(request))
            write_figures(partial, assessment, members)
            write_cases(partial, predicted, members, store, device)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return assessment


def about(request: Request) -> dict[str, Any]:
    """What was judged, for the results' head."""
    return {
        "dataset": request.name,
        "part": request.part,
        "checkpoints": [str(path) for path in request.checkpoints],
        "method": request.method,
        "options": dict(request.options or {}),
        "support": None if request.support is None else str(request.support),
        "shots": request.shots,
    }
