"""`fewshot evaluate`: from checkpoints and a dataset's folder to a folder of scores, figures and masks."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from episodes.errors import UserError
from episodes.io.files import folder_written_whole, require_free
from episodes.io.locks import exclusive_lock
from episodes.names import short_name
from episodes.records import Record
from episodes.storage.store import Store
from fewshot.devices import choose_device
from fewshot.evaluate.figures import write_cases, write_figures
from fewshot.evaluate.scores import NUMBERS, Assessment, ImageResult, Results, assess, write_numbers
from fewshot.inference.loading import LoadedMethod, adapt_ensemble, load_ensemble
from fewshot.inference.predictor import Predictor
from fewshot.inference.support import load_support_folder, record_hashes, support_hashes
from fewshot.results.pictures import write_map, write_mask
from fewshot.stores import open_dataset
from fewshot.terminal import Reporter

logger = logging.getLogger(__name__)

Trainings = Mapping[Path, Mapping[str, Any]]
"""What checkpoints say of their trainings."""


def unseen_records(store: Store, reader: str, trainings: Trainings, shown: Iterable[str] = ()) -> list[Record]:
    """Return a dataset's records that no training has seen: the common test part, or all where nothing was trained on.

    Images are known by their hashes (`image_hashes`): their files may have other names or another place by now. The
    hashes `shown` are of images that a method was adapted to: their patients are left out, as are those of what was
    trained on.

    Raises:
        UserError: if no record is left.
    """
    name, hashes, seen = store.records[0].dataset, record_hashes([store]), set(shown)
    records = list(store.records)
    for path, facts in trainings.items():
        trained, kept = _images(path, facts)
        if not kept.isdisjoint(hashes.values()):
            records = [record for record in records if hashes[record.id] in kept]
        elif trained.isdisjoint(hashes.values()) and reader in _published_readers(facts):
            logger.warning(
                "%s: was trained on the dataset %s, of which no image here is known again; if files have changed,"
                " these scores are of images that it has seen",
                path,
                reader,
            )
        seen |= trained
    if not records:
        raise UserError(f"{name}: the checkpoints' test parts have no image in common; judge them one by one")
    patients = {record.patient_id for record in store.records if hashes[record.id] in seen}
    left = [record for record in records if record.patient_id not in patients]
    if not left:
        raise UserError(
            f"{name}: every patient has an image that was trained on or is among the annotated ones, so that scores"
            " would mean nothing; train with test_share, judge on other data, or give --part all to do it nonetheless"
        )
    if len(left) < len(records):
        logger.info("%d images are of patients whose images were seen, and left out", len(records) - len(left))
    return left


def _images(path: Path, facts: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return the hashes of what was trained on, or fine-tuned, and of the test part."""
    if not {"seen_images", "test_images"} <= facts.keys():
        raise UserError(f"{path}: does not say what it was trained on, so nothing is known to be unseen by it")
    return {*facts["seen_images"], *facts.get("finetuned", {}).get("hashes", ())}, set(facts["test_images"])


def _published_readers(facts: Mapping[str, Any]) -> set[str]:
    """Return the readers of a training's sources that read one dataset each."""
    return {facts["datasets"][source]["reader"] for source in facts.get("sources", ())} - {"folder", "phantom"}


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The checkpoints and the data to judge, and how."""

    checkpoints: Sequence[Path]  # one, or several whose mean is judged
    data: Path  # the dataset's folder
    reader: str  # of the dataset: a name, or `module:function`
    name: str | None = None  # what the dataset is called in the results; None for its reader's name
    # `test`, what the checkpoints were neither trained on nor adapted to, or `all`.
    part: Literal["test", "all"] = "test"
    method: str | None = None  # how the checkpoints are used; None for what goes with the network
    options: Mapping[str, Any] = field(default_factory=dict)  # of the method
    support: Path | None = None  # folder of annotated images to adapt to
    shots: int | None = None  # how many of them; None for all
    invert_masks: bool = False  # whether the masks of the data, and of the annotated images, have a light ground
    trust: Sequence[str] = ()  # modules that the checkpoints' networks may be of
    cache: Path | None = None  # where stores lie; None for the user's


EvaluationListener = Callable[[Path, Mapping[str, Any], Assessment, Sequence[ImageResult], Store], None]
"""Takes the folder of an evaluation once it is written, what was judged, its scores, every image's, and the pixels."""


def evaluate_checkpoints(
    request: EvaluationRequest,
    out: Path,
    reporter: Reporter,
    *,
    overwrite: bool = False,
    listener: EvaluationListener | None = None,
) -> Assessment:
    """Judge checkpoints on a dataset and write the results' folder, whole.

    The folder gets `evaluation.json` (every number), `evaluation.md`, `images.csv`, the figures `roc_pixels.png`,
    `roc_images.png`, `confusion.png`, `calibration.png`, `training.png` and `cases.png` as far as they apply, `masks/`
    and, of several predictions, `uncertainty/` (entropy, 16 bits a pixel), both at the working size. `overwrite`
    replaces an evaluation that is there; the listener is told of the new one at the end.

    Raises:
        UserError: if the folder exists or another process is writing it, or for whatever is wrong with checkpoints,
            data or options.
    """
    _require_free(out, overwrite=overwrite)
    if request.shots is not None and request.support is None:
        raise UserError("--shots says how many annotated images to take; give their folder as --support")
    device = choose_device("auto")
    members = load_ensemble(
        request.checkpoints,
        request.method,
        request.options,
        device,
        with_support=request.support is not None,
        trust=request.trust,
    )
    size, trainings = members[0].image_size, {one.path: one.facts for one in members if one.path is not None}
    support = None
    if request.support is not None:
        support = load_support_folder(request.support, size, request.shots, invert_masks=request.invert_masks)
    dataset = {"reader": request.reader, "root": request.data, "invert": request.invert_masks}
    store = open_dataset(request.name, dataset, reporter, "evaluate", image_size=size, cache=request.cache)
    name = store.records[0].dataset
    shown = () if support is None else support_hashes(support)
    unseen = request.part == "test"
    records = unseen_records(store, request.reader, trainings, shown) if unseen else list(store.records)
    with exclusive_lock(out):
        _require_free(out, overwrite=overwrite)  # nor has another process written it meanwhile
        with reporter.step("adapt"):
            predictor = adapt_ensemble(members, support)
        with folder_written_whole(out) as folder:
            assessment, images = _judge(members, predictor, store, records, folder, about(request, name), reporter)
        if listener is not None:
            listener(out, about(request, name), assessment, images, store)
    return assessment


def _judge(
    members: Sequence[LoadedMethod],
    predictor: Predictor,
    store: Store,
    records: Sequence[Record],
    folder: Path,
    about: Mapping[str, Any],
    reporter: Reporter,
) -> tuple[Assessment, Sequence[ImageResult]]:
    """Predict, score, draw and write everything into a folder."""
    with reporter.step(f"evaluate: {about['dataset']}, {len(records)} of {len(store.records)} images") as update:
        results = Results(members[0].classes, members[0].labels)
        rows = {record.id: row for row, record in enumerate(store.records)}
        for batch, predictions in predictor.predict_records(store, records):
            for record, prediction in zip(batch, predictions, strict=True):
                results.add(record, prediction, np.asarray(store.label_maps[rows[record.id]]))
                write_mask(folder / "masks" / f"{short_name(record.stem)}.png", prediction.mask)
                if prediction.n_predictions > 1:
                    write_map(folder / "uncertainty" / f"{short_name(record.stem)}.png", prediction.entropy)
            update(len(results.images), len(records))
        assessment = assess(results)
    with reporter.step("figures"):
        write_numbers(folder, assessment, results.images, about)
        write_figures(folder, assessment, members)
        write_cases(folder, results.images, predictor, store)
    return assessment, results.images


def _require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse to write where something is, and to delete what is no evaluation."""
    require_free(out, overwrite=overwrite)
    if out.exists() and not (out / NUMBERS).is_file():
        raise UserError(f"{out}: holds no evaluation, and --overwrite would delete it; give another folder")


def about(request: EvaluationRequest, name: str) -> dict[str, Any]:
    """Describe what was judged, for the results' head."""
    return {
        "dataset": name,
        "part": request.part,
        "checkpoints": [str(path) for path in request.checkpoints],
        "method": request.method,
        "options": dict(request.options),
        "support": None if request.support is None else str(request.support),
        "shots": request.shots,
    }
