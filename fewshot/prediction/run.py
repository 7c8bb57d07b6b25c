"""`fewshot predict`: from a checkpoint, a support folder and images to a folder of masks and a table."""

import logging
from pathlib import Path
from typing import Any

from episodes.episode import Support
from episodes.files import file_hash
from episodes.locks import only_process
from fewshot import __version__
from fewshot.api import Adaptable
from fewshot.data.support_folder import load_support_folder, support_hashes
from fewshot.memory.batching import Batching
from fewshot.prediction.chunks import Chunks
from fewshot.prediction.facts import NOTICE, begin, require_same, support_facts
from fewshot.prediction.folder import ResultFolder
from fewshot.prediction.inputs import Inputs, find_inputs
from fewshot.prediction.reading import CaseReader
from fewshot.prediction.request import Request, load_model
from fewshot.prediction.segmenter import Segmenter
from fewshot.prediction.spacings import Spacings
from fewshot.prediction.summary import Summary
from fewshot.prediction.truths import find_truths
from fewshot.terminal.progress import Reporter

logger = logging.getLogger(__name__)


def predict_folder(request: Request, out: Path, reporter: Reporter, *, overwrite: bool = False) -> Summary:
    """Segment images and write a folder of results; one that was interrupted goes on.

    The folder gets `prediction.json` (what the results were made by), `masks/`, `probabilities/` and `overlays/` with a
    picture per image, of its own size, `predictions.csv` and, if any image could not be read, `failed.csv`.

    Args:
        request: what is asked for.
        out: the folder to write.
        reporter: shows progress.
        overwrite: replace results of another model, support set or options.

    Raises:
        UserError: if something that is asked for cannot be used, or the folder holds something else: nothing is
            written then. Or if memory does not suffice for a single image.
        StorageError: if it cannot be written.
    """
    model = load_model(request)
    inputs = find_inputs(request.images, without=[out])
    truths = {} if request.masks is None else find_truths(request.masks, inputs.items)
    reader = CaseReader(Spacings(inputs.root, request.spacing), truths)
    folder = request.support_used
    support = None if folder is None else load_support_folder(folder, model.image_size, request.shots)
    facts = prediction_facts(request, model, inputs, support)
    require_same(out, facts, overwrite=overwrite)
    _tell(request, model, inputs, reader)
    with only_process(out):
        if not require_same(out, facts, overwrite=overwrite):  # nor has another process written it meanwhile
            begin(out, facts)
        return _predict(request, model, support, inputs, reader, ResultFolder(out, npy=request.npy), reporter)


def prediction_facts(request: Request, model: Adaptable, inputs: Inputs, support: Support | None) -> dict[str, Any]:
    """Whatever the results depend on beside the images, and a notice: the content of `prediction.json`."""
    return {
        "notice": NOTICE,
        "version": __version__,
        "checkpoint": file_hash(request.checkpoint),
        "method": model.name,
        "options": dict(request.options),
        "image_size": model.image_size,
        "support": support_facts(support),
        "images": str(inputs.root.resolve()),
        "probabilities": "npy" if request.npy else "png",
    }


def _predict(
    request: Request,
    model: Adaptable,
    support: Support | None,
    inputs: Inputs,
    reader: CaseReader,
    folder: ResultFolder,
    reporter: Reporter,
) -> Summary:
    def adapt() -> Segmenter:
        return model.adapt_to(support, request.batch)

    shown = frozenset() if support is None else frozenset(support_hashes(support))
    chunks = Chunks(reader, folder, adapt, model.image_size, shown)
    size = Batching(model.device, request.batch).size
    with reporter.step(f"predict: {len(inputs.items)} images") as update:
        for start in range(0, len(inputs.items), size):
            chunks.segment(inputs.items[start : start + size])
            update(min(start + size, len(inputs.items)), len(inputs.items), _note(chunks))
    if chunks.of_support:
        logger.info("%d images are support images, and left out", len(chunks.of_support))
    folder.finish(chunks.failed)
    return Summary(folder.path, folder.rows, len(inputs.items), chunks.failed)


def _note(chunks: Chunks) -> str:
    return f"{len(chunks.failed)} could not be read" if chunks.failed else ""


def _tell(request: Request, model: Adaptable, inputs: Inputs, reader: CaseReader) -> None:
    """Say once what a user should know before it begins."""
    logger.warning(NOTICE)
    if inputs.left_out:
        logger.info("%d files look like masks, such as %s, and are left out", len(inputs.left_out), inputs.left_out[0])
    if request.masks is not None and (unknown := sum(one.key not in reader.truths for one in inputs.items)):
        logger.info("%d of %d images have no mask in %s: no Dice", unknown, len(inputs.items), request.masks)
    if model.familiarity is None:
        logger.info(
            "%s: holds nothing of its training's images (it is older, or fine-tuned): none is flagged as unlike them",
            request.checkpoint,
        )
