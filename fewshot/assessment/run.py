"""`fewshot evaluate`: from checkpoints and a dataset's folder to a folder of scores, figures and masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from episodes.episode import Support
from episodes.errors import UserError
from episodes.files import folder_written_whole
from episodes.locks import only_process
from episodes.records import Record
from episodes.store import Store
from fewshot.assessment.figures import write_cases, write_figures
from fewshot.assessment.inference import ImagePrediction, ImageResult, predict_records
from fewshot.assessment.members import Member, load_members
from fewshot.assessment.numbers import NUMBERS, write_numbers
from fewshot.assessment.scores import Assessment, assess
from fewshot.assessment.unseen import Trainings, name_in_training, unseen_records, without_shown
from fewshot.config import DataConfig, Tracking
from fewshot.data.stores import open_store
from fewshot.data.support_folder import load_support_folder, support_hashes
from fewshot.devices import choose_device
from fewshot.figures.maps import write_map, write_mask
from fewshot.parsing import parse_config
from fewshot.terminal.progress import Reporter
from fewshot.tracking.wandb_evaluation import log_evaluation


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be judged.

    Attributes:
        checkpoints: one, or several whose mean is judged.
        data: the dataset's folder.
        reader: of the dataset: a name, or `module:function`.
        name: the dataset's name in the configuration that the checkpoints were trained by; None for the one that the
            checkpoints know this folder by, or the reader's.
        part: `test`, what the checkpoints were neither trained on nor adapted to, or `all`.
        method: how the checkpoints are used; None for what goes with the network.
        options: of the method.
        support: folder of annotated images to adapt to.
        shots: how many of them; None for all.
    """

    checkpoints: Sequence[Path]
    data: Path
    reader: str
    name: str | None = None
    part: Literal["test", "all"] = "test"
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    support: Path | None = None
    shots: int | None = None


def evaluate_checkpoints(
    request: Request, out: Path, reporter: Reporter, *, overwrite: bool = False, tracking: Tracking = "local"
) -> Assessment:
    """Judge checkpoints on a dataset and write the results' folder, whole.

    The folder gets `evaluation.json` (every number), `evaluation.md`, `images.csv`, the figures `roc_pixels.png`,
    `roc_images.png`, `confusion.png`, `calibration.png`, `training.png` and `cases.png` as far as they apply, `masks/`
    and, of several predictions, `uncertainty/` (entropy, 16 bits a pixel), both at the working size.

    Args:
        request: what is judged.
        out: the folder to write; must not exist.
        reporter: shows progress.
        overwrite: replace it if it does, and holds an evaluation.
        tracking: whether wandb is told of it.

    Raises:
        UserError: if the folder exists or another process is writing it, or for whatever is wrong with checkpoints,
            data or options.
    """
    _require_free(out, overwrite=overwrite)
    if request.shots is not None and request.support is None:
        raise UserError("--shots says how many annotated images to take; give their folder as --support")
    device = choose_device("auto")
    members = load_members(
        request.checkpoints, request.method, request.options, device, with_support=request.support is not None
    )
    size, trainings = members[0].image_size, {member.path: member.facts for member in members}
    name = request.name or name_in_training(trainings, request.reader, request.data)
    support = None if request.support is None else load_support_folder(request.support, size, request.shots)
    tree = {"datasets": {name: {"reader": request.reader, "root": request.data}}, "image_size": size}
    store = open_store(parse_config(tree, DataConfig, "evaluate"), name, reporter)
    records = list(store.records) if request.part == "all" else _unseen(store, trainings, support)
    with only_process(out):
        _require_free(out, overwrite=overwrite)  # nor has another process written it meanwhile
        with reporter.step("adapt"):
            members = [member.after(None if support is None else support.to(device)) for member in members]
        with folder_written_whole(out) as folder:
            assessment, images = _judge(members, store, records, device, folder, about(request, name), reporter)
        log_evaluation(tracking, out, about(request, name), assessment, images, store)
    return assessment


def _unseen(store: Store, trainings: Trainings, support: Support | None) -> list[Record]:
    shown = [found for facts in trainings.values() for found in facts.get("finetuned", {}).get("hashes", ())]
    if support is not None:
        shown += support_hashes(support)
    return without_shown(store, unseen_records(store, trainings), shown)


def _judge(
    members: Sequence[Member],
    store: Store,
    records: Sequence[Record],
    device: torch.device,
    folder: Path,
    about: Mapping[str, Any],
    reporter: Reporter,
) -> tuple[Assessment, Sequence[ImageResult]]:
    """Predict, score, draw and write everything into a folder."""
    (folder / "masks").mkdir()

    def keep(record: Record, prediction: ImagePrediction) -> None:
        write_mask(folder / "masks" / f"{record.stem}.png", prediction.mask)
        if prediction.n_predictions > 1:
            (folder / "uncertainty").mkdir(exist_ok=True)
            write_map(folder / "uncertainty" / f"{record.stem}.png", prediction.entropy)

    with reporter.step(f"evaluate: {about['dataset']}, {len(records)} of {len(store.records)} images") as update:
        results = predict_records(members, store, records, device, on_image=keep, progress=update)
        assessment = assess(results)
    with reporter.step("figures"):
        write_numbers(folder, assessment, results.images, about)
        write_figures(folder, assessment, members)
        write_cases(folder, results.images, members, store, device)
    return assessment, results.images


def _require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse to write where something is, and to delete what is no evaluation."""
    if not out.exists():
        return
    if not overwrite:
        raise UserError(f"{out}: exists already; give another folder, or add --overwrite")
    if not (out / NUMBERS).is_file():
        raise UserError(f"{out}: holds no evaluation, and --overwrite would delete it; give another folder")


def about(request: Request, name: str) -> dict[str, Any]:
    """What was judged, for the results' head."""
    return {
        "dataset": name,
        "part": request.part,
        "checkpoints": [str(path) for path in request.checkpoints],
        "method": request.method,
        "options": dict(request.options),
        "support": None if request.support is None else str(request.support),
        "shots": request.shots,
    }
