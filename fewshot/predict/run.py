"""`fewshot predict`: from a checkpoint, a support folder and images to a folder of masks and a table."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from episodes.datasets import read_dataset
from episodes.errors import DatasetError, UserError
from episodes.images.decoding import stretch_image
from episodes.images.grey_scales import describe_full_scales, full_scales
from episodes.images.spacing import Spacing
from episodes.io.files import file_hash, real_path, remove_folder, write_text
from episodes.io.locks import exclusive_lock
from episodes.io.yaml_json import JSONTextError, read_json
from episodes.names import printable
from episodes.parallel import ahead_in_threads
from episodes.records import Record
from episodes.sampling.episode import Support
from fewshot import __version__
from fewshot.checkpoints import read_facts
from fewshot.config.parsing import ConfigError
from fewshot.devices import Batching
from fewshot.inference.inputs import Input, Inputs, Spacings, find_inputs, read_metadata_beside
from fewshot.inference.loading import LoadedMethod, load_method
from fewshot.inference.predictor import NOTICE, ImagePrediction
from fewshot.inference.support import image_hashes, load_support, support_facts, support_hashes
from fewshot.methods.contract import needs_support
from fewshot.predict.cases import FullScales, ImageReader, ReadImage, find_truths
from fewshot.predict.results import ResultFolder, Summary
from fewshot.terminal import Reporter

logger = logging.getLogger(__name__)
FACTS = "prediction.json"
# Arguments of `fewshot.api.load`, which are no options of a method.
_OF_LOADING = {"checkpoint", "method", "image_size", "device", "trust"}
# What goes on training a few-shot network; a supervised one is fine-tuned.
_FINETUNED = {"panet": "tuned-prototypes"}


def require_same(out: Path, facts: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Refuse a folder that holds anything but results of the same facts.

    `overwrite` lets results of other facts be deleted; nothing else ever is.

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


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """The model, the images and the options of `fewshot predict`."""

    checkpoint: Path  # the model
    images: str  # a file, a folder or a pattern
    support: Path | None = None  # folder of annotated images to adapt to; None for none
    shots: int | None = None  # how many of them, the first by name; None for all, 0 for none
    method: str | None = None  # how the model is used; None for what goes with it
    adapt: Literal["finetune"] | None = None  # `finetune` to go on training the model on the annotated images
    options: Mapping[str, Any] = field(default_factory=dict)  # of the method
    masks: Path | None = None  # folder of known masks to judge by; None for none
    invert_masks: bool = False  # whether these, and those of the support set, have a light ground
    spacing: Spacing | None = None  # millimetres from pixel to pixel, of images of which nothing else is known
    batch: int | None = None  # images at once; None for what suits the device
    npy: bool = False  # whether probabilities are written as NumPy's files, in place of pictures
    device: str = "auto"  # where to compute
    trust: Sequence[str] = ()  # modules that the network may be of

    @property
    def support_used(self) -> Path | None:
        """Return the folder of annotated images, if any of them are asked for."""
        return None if self.shots == 0 else self.support


def load_model(request: PredictionRequest) -> LoadedMethod:
    """Load the model as the request wants it used.

    Raises:
        UserError: if it cannot be loaded, or does not go with what else is asked for.
    """
    _require_sense(request)
    method = request.method
    if request.adapt == "finetune":
        method = _finetuning(read_facts(request.checkpoint))
    model = load_method(request.checkpoint, method, request.device, request.options, trust=request.trust)
    named = f"{request.checkpoint}: {model.name}"
    if request.support_used is None and needs_support(model.method):
        raise ConfigError(
            f"{named} needs annotated images; give a folder of them, with images/ and masks/, as --support"
        )
    if request.support_used is not None and not model.method.uses_support:
        raise ConfigError(
            f"{named} does not use annotated images; add --adapt finetune to train it on them, or leave out --support"
        )
    return model


def _require_sense(request: PredictionRequest) -> None:
    """Refuse what contradicts itself."""
    if foreign := _OF_LOADING & request.options.keys():
        raise ConfigError(f"{min(foreign)}: no method has such an option; leave it out")
    if request.shots and request.support is None:
        raise ConfigError("--shots says how many annotated images to take; give their folder as --support")
    if request.adapt is None:
        return
    if request.method is not None:
        raise ConfigError(f"--adapt {request.adapt} is a method of its own; leave out --method {request.method}")
    if request.support_used is None:
        raise ConfigError("--adapt finetune needs annotated images; give a folder of them as --support")


def _finetuning(facts: Mapping[str, Any]) -> str:
    """Return the method that goes on training a checkpoint's network."""
    network = facts.get("model", {}).get("network", "")
    if network == "maml":
        raise ConfigError("--adapt finetune: maml trains on the annotated images by itself; leave it out")
    return _FINETUNED.get(network, "fine-tuned")


WRITERS = 2  # threads that encode and write pictures


class ChunkPrediction:
    """Predicts images chunk by chunk into a folder of results.

    The model adapts to its support set when the first image is to be segmented; support images are not segmented again.
    At once are predicted `batch_size` images, or what suits the device.
    """

    def __init__(
        self,
        reader: ImageReader,
        folder: ResultFolder,
        model: LoadedMethod,
        support: Support | None,
        batch_size: int | None,
    ) -> None:
        self.reader, self.folder, self.size = reader, folder, (model.image_size, model.image_size)
        self.failed: dict[Input, str] = {}  # images that could not be read, each with the reason
        self.of_support: list[Input] = []  # images that are support images
        self._known = frozenset() if support is None else frozenset(support_hashes(support))
        self._predictor = cache(partial(model.adapt, support, batch_size=batch_size))

    def over(self, inputs: Sequence[Input], size: int, progress: Callable[[int], None]) -> None:
        """Segment those images whose results are not there yet, in chunks of this size.

        While a chunk is segmented, the next is read and pictures of the one before are written; what goes wrong there
        is raised here. Rows are written in the order of the images, each after its pictures.

        Args:
            inputs: all images.
            size: how many are segmented together.
            progress: is told, after each chunk, how many images are segmented.

        Raises:
            StorageError: if results cannot be written.
            NotEnoughMemoryError: if memory does not suffice for a single image.
        """
        chunks = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        found = self._segment(ahead_in_threads(self._read, chunks, threads=1, ahead=1), size, progress)
        for row in ahead_in_threads(self.folder.write, found, threads=WRITERS, ahead=size):
            self.folder.add(row)

    def _segment(
        self, chunks: Iterable[tuple[Sequence[ReadImage], Set[Input]]], size: int, progress: Callable[[int], None]
    ) -> Iterator[tuple[ReadImage, ImagePrediction]]:
        """Yield the images of each chunk with what is predicted of them, but for those whose results are there."""
        for done, (images, there) in enumerate(chunks, start=1):
            found = self._predictor().predict_images([one.image for one in images]) if images else iter(())
            for one, prediction in zip(images, found, strict=True):
                if one.input not in there:
                    yield one, prediction
            progress(done * size)

    def _read(self, chunk: Sequence[Input]) -> tuple[Sequence[ReadImage], Set[Input]]:
        """Read the images of a chunk, and say of which the results are there; of all of them, none is read.

        An image's probabilities depend, by rounding, on those beside it. So the whole chunk is segmented even where a
        part of it is there: a prediction that was interrupted ends with the same bytes as one that was not.
        """
        there = {one for one in chunk if self.folder.has(one, self.reader)}
        wanted = list(self._readable(one for one in chunk if one not in there))
        if not wanted:
            return (), there
        beside = self._readable(one for one in chunk if one in there)
        return sorted([*wanted, *beside], key=lambda one: one.input.key), there

    def _readable(self, inputs: Iterable[Input]) -> Iterator[ReadImage]:
        """Read the images that can be read and are no support images."""
        for one in inputs:
            try:
                image = self.reader.read(one)
            except DatasetError as error:
                self.failed[one] = str(error)
                continue
            if self._known and image_hashes(stretch_image(image.image, self.size)[None])[0] in self._known:
                self.of_support.append(one)
            else:
                yield image


def predict_folder(request: PredictionRequest, out: Path, reporter: Reporter, *, overwrite: bool = False) -> Summary:
    """Segment images and write a folder of results; one that was interrupted goes on.

    The folder gets `prediction.json` (what the results were made by), `masks/`, `probabilities/` and `overlays/` with a
    picture per image, of its own size, `predictions.csv` and, if any image could not be read, `failed.csv`; files that
    look like pictures but were left out are listed in `left_out.csv`. `overwrite` replaces results of another model,
    support set or options.

    Raises:
        UserError: if something that is asked for cannot be used, or the folder holds something else: nothing is
            written then. Or if memory does not suffice for a single image.
        StorageError: if it cannot be written.
    """
    model = load_model(request)
    inputs = find_inputs(request.images, without=[out])
    truths, no_truths = ({}, {}) if request.masks is None else find_truths(request.masks, inputs.items)
    of_truths = {real_path(path) for masks in truths.values() for path in masks}
    left_out = {path: why for path, why in inputs.left_out.items() if real_path(path) not in of_truths}
    inputs = replace(inputs, left_out={**no_truths, **left_out})
    outlined, inverted = request.support_used, request.invert_masks
    records = [] if outlined is None else read_dataset("folder", outlined, invert_masks=inverted)
    annotated, scales = _with_one_scale(records, inputs)
    reader = ImageReader(Spacings(read_metadata_beside(inputs), request.spacing), truths, scales, invert_masks=inverted)
    support = None if outlined is None else load_support(outlined, annotated, model.image_size, request.shots)
    facts = prediction_facts(request, model, inputs, support)
    require_same(out, facts, overwrite=overwrite)
    _log_facts(request, model, inputs, reader)
    with exclusive_lock(out):
        if not require_same(out, facts, overwrite=overwrite):  # nor has another process written it meanwhile
            begin(out, facts)
        folder = ResultFolder(out, npy=request.npy)
        folder.list_left_out(inputs.left_out)
        prediction = ChunkPrediction(reader, folder, model, support, request.batch)
        return _predict(prediction, inputs.items, Batching(model.device, request.batch).size, reporter)


def _with_one_scale(annotated: Sequence[Record], inputs: Inputs) -> tuple[list[Record], FullScales]:
    """Choose one scale for annotated and other images of more than 8 bits: a single dim one would have another."""
    scales = full_scales(
        [(one.image, one.frame) for one in annotated] + [(one.path, one.frame) for one in inputs.items]
    )
    records = [replace(record, full_scale=scale) for record, scale in zip(annotated, scales, strict=False)]
    rest = zip(inputs.items, scales[len(annotated) :], strict=True)
    return records, {one.key: scale for one, scale in rest if scale is not None}


def _predict(prediction: ChunkPrediction, inputs: Sequence[Input], size: int, reporter: Reporter) -> Summary:
    folder, failed = prediction.folder, prediction.failed
    with reporter.step(f"predict: {len(inputs)} images") as update:

        def progress(done: int) -> None:
            update(min(done, len(inputs)), len(inputs), f"{len(failed)} could not be read" if failed else "")

        prediction.over(inputs, size, progress)
    if prediction.of_support:
        logger.info("%d images are support images, and left out", len(prediction.of_support))
    folder.finish(failed)
    return Summary(folder.path, folder.rows, len(inputs), failed)


def prediction_facts(
    request: PredictionRequest, model: LoadedMethod, inputs: Inputs, support: Support | None
) -> dict[str, Any]:
    """Return all that the results depend on beside the images, and a notice: what `prediction.json` holds."""
    return {
        "notice": NOTICE,
        "version": __version__,
        "checkpoint": file_hash(request.checkpoint),
        "method": model.name,
        "options": dict(request.options),
        "image_size": model.image_size,
        "support": support_facts(support),
        "images": printable(str(inputs.root.resolve())),
        "probabilities": "npy" if request.npy else "png",
    }


def _log_facts(request: PredictionRequest, model: LoadedMethod, inputs: Inputs, reader: ImageReader) -> None:
    """Say once what a user should know before it begins."""
    logger.warning(NOTICE)
    for line in inputs.left_out_lines():
        logger.info("%s", line)
    for line in describe_full_scales(reader.full_scales.values()):
        logger.info("%s", line)
    if request.masks is not None and (unknown := sum(one.key not in reader.truths for one in inputs.items)):
        logger.info("%d of %d images have no mask in %s: no Dice", unknown, len(inputs.items), request.masks)
    if model.novelty_detector is None:
        logger.info(
            "%s: holds nothing of its training's images (it is older, or fine-tuned): none is flagged as unlike them",
            request.checkpoint,
        )
