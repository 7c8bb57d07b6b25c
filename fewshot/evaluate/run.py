"""`fewshot evaluate`: from checkpoints and a dataset's folder to a folder of scores, figures and masks."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal, Protocol

import numpy as np

from episodes.errors import UserError
from episodes.io.files import exclusive_lock, folder_written_whole, short_name
from episodes.records import Record
from episodes.sampling.episode import Support
from episodes.storage.store import Store
from fewshot.config.data import DataConfig
from fewshot.config.parsing import parse_config
from fewshot.devices import choose_device
from fewshot.evaluate.figures import write_cases, write_figures
from fewshot.evaluate.scores import NUMBERS, Assessment, ImageResult, Results, assess, write_numbers
from fewshot.inference.loading import LoadedMethod, adapt_ensemble, load_ensemble
from fewshot.inference.predictor import EnsemblePrediction, Predictor
from fewshot.inference.support import image_hashes, load_support_folder, support_hashes
from fewshot.results.pictures import write_map, write_mask
from fewshot.stores import open_store
from fewshot.terminal import Reporter

logger = logging.getLogger(__name__)

Trainings = Mapping[Path, Mapping[str, Any]]
"""What checkpoints say of their trainings."""


def name_in_training(trainings: Trainings, reader: str, data: Path) -> str:
    """Find the name that a dataset had as a source of a training; else that of its reader.

    Sources are known by reader and folder, of which a checkpoint keeps what its configuration said.
    """
    folders = {data.absolute(), data.resolve()}
    for path, facts in trainings.items():
        for name in _sources(path, facts):
            source = facts["datasets"][name]
            if source["reader"] == reader and any(_ends_with(folder, source["root"]) for folder in folders):
                return str(name)
    return reader.partition(":")[0]


def _ends_with(folder: Path, root: str | None) -> bool:
    parts = [part for part in PurePath(root or "").parts if part != ".."]
    return bool(parts) and list(folder.parts[-len(parts) :]) == parts


def unseen_records(store: Store, trainings: Trainings) -> list[Record]:
    """Return a dataset's records that were in no training: all of one that was no source, else the common test part.

    Raises:
        UserError: if a checkpoint was trained on all of the dataset, or kept a test part of other files.
    """
    name = store.records[0].dataset
    records = list(store.records)
    for path, facts in trainings.items():
        if name in _sources(path, facts):
            test = _test_part(store, path, facts)
            records = [record for record in records if record.id in test]
    if not records:
        raise UserError(f"{name}: the checkpoints' test parts have no image in common; judge them one by one")
    return records


def _sources(path: Path, facts: Mapping[str, Any]) -> list[str]:
    if not {"sources", "datasets"} <= facts.keys():
        raise UserError(f"{path}: does not say what it was trained on, so nothing is known to be unseen by it")
    return list(facts["sources"])


def _test_part(store: Store, path: Path, facts: Mapping[str, Any]) -> set[str]:
    known = {record.id: record.dataset for record in store.records}
    name = store.records[0].dataset
    test = {record_id for record_id in facts.get("test_ids", ()) if record_id.startswith(f"{name}/")}
    if not test:
        raise UserError(
            f"{path}: was trained on all of {name}, so that its scores there would mean nothing; train with test_share,"
            " judge it on another dataset, or give --part all to do it nonetheless"
        )
    if foreign := test - known.keys():
        raise UserError(
            f"{path}: its test part of {name} has {len(foreign)} images that are not here, such as {min(foreign)};"
            " give the folder that it was trained on, or another --name if it is another dataset"
        )
    return test


def without_shown(store: Store, records: Sequence[Record], shown: Iterable[str]) -> list[Record]:
    """Return the records of patients of whom no image was shown to a method as a support image.

    Args:
        store: holds the records' pixels.
        records: of the store.
        shown: hashes of the support images, as `image_hashes` gives them: a support folder has names of its own.

    Raises:
        UserError: if no record is left.
    """
    hashes = set(shown)
    if not hashes:
        return list(records)
    found = zip(store.records, image_hashes(store.images[:]), strict=True)
    patients = {record.patient_id for record, name in found if name in hashes}
    left = [record for record in records if record.patient_id not in patients]
    if not left:
        raise UserError(
            f"{store.records[0].dataset}: every patient has an image among the annotated ones, so that none is left to"
            " judge on; give other data, or --part all to judge on them nonetheless"
        )
    if len(left) < len(records):
        logger.info("%d images are of patients among the annotated images, and left out", len(records) - len(left))
    return left


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The checkpoints and the data to judge, and how.

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
        invert_masks: whether the masks of the data, and of the annotated images, have a light ground.
        trust: modules that the checkpoints' networks may be of.
        cache: where stores lie; None for the user's.
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
    invert_masks: bool = False
    trust: Sequence[str] = ()
    cache: Path | None = None


class EvaluationListener(Protocol):
    """Is told of an evaluation once its folder is written, as `fewshot.tracking` is."""

    def __call__(
        self,
        out: Path,
        about: Mapping[str, Any],
        assessment: Assessment,
        images: Sequence[ImageResult],
        store: Store,
    ) -> None:
        """Take the folder, what was judged, its scores, every image's, and the pixels."""


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
    and, of several predictions, `uncertainty/` (entropy, 16 bits a pixel), both at the working size.

    Args:
        request: what is judged.
        out: the folder to write; must not exist.
        reporter: shows progress.
        overwrite: replace it if it does, and holds an evaluation.
        listener: is told of it at the end.

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
    name = request.name or name_in_training(trainings, request.reader, request.data)
    support = None
    if request.support is not None:
        support = load_support_folder(request.support, size, request.shots, invert_masks=request.invert_masks)
    tree = {
        "datasets": {name: {"reader": request.reader, "root": request.data, "invert": request.invert_masks}},
        "image_size": size,
        "cache": request.cache,
    }
    store = open_store(parse_config(tree, DataConfig, "evaluate"), name, reporter)
    records = list(store.records) if request.part == "all" else _unseen(store, trainings, support)
    with exclusive_lock(out):
        _require_free(out, overwrite=overwrite)  # nor has another process written it meanwhile
        with reporter.step("adapt"):
            predictor = adapt_ensemble(members, support)
        with folder_written_whole(out) as folder:
            assessment, images = _judge(members, predictor, store, records, folder, about(request, name), reporter)
        if listener is not None:
            listener(out, about(request, name), assessment, images, store)
    return assessment


def _unseen(store: Store, trainings: Trainings, support: Support | None) -> list[Record]:
    shown = [found for facts in trainings.values() for found in facts.get("finetuned", {}).get("hashes", ())]
    if support is not None:
        shown += support_hashes(support)
    return without_shown(store, unseen_records(store, trainings), shown)


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
    (folder / "masks").mkdir()
    with reporter.step(f"evaluate: {about['dataset']}, {len(records)} of {len(store.records)} images") as update:
        results = Results(members[0].classes, members[0].labels)
        rows = {record.id: row for row, record in enumerate(store.records)}
        for batch, predictions in predictor.predict_records(store, records):
            for record, prediction in zip(batch, predictions, strict=True):
                results.add(record, prediction, np.asarray(store.label_maps[rows[record.id]]))
                _write_maps(folder, record, prediction)
            update(len(results.images), len(records))
        assessment = assess(results)
    with reporter.step("figures"):
        write_numbers(folder, assessment, results.images, about)
        write_figures(folder, assessment, members)
        write_cases(folder, results.images, predictor, store)
    return assessment, results.images


def _write_maps(folder: Path, record: Record, prediction: EnsemblePrediction) -> None:
    write_mask(folder / "masks" / f"{short_name(record.stem)}.png", prediction.mask)
    if prediction.n_predictions > 1:
        (folder / "uncertainty").mkdir(exist_ok=True)
        write_map(folder / "uncertainty" / f"{short_name(record.stem)}.png", prediction.entropy)


def _require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse to write where something is, and to delete what is no evaluation."""
    if not out.exists():
        return
    if not overwrite:
        raise UserError(f"{out}: exists already; give another folder, or add --overwrite")
    if not (out / NUMBERS).is_file():
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
