"""`fewshot export`: a network with its support set baked in, as an ONNX file."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.errors import DatasetError, UserError, in_short
from episodes.io.files import file_hash, require_free, written_whole
from episodes.phantoms.population import PhantomSpec, generate
from episodes.sampling.episode import Support, image_tensor
from fewshot import __version__
from fewshot.inference.loading import LoadedMethod, adapt_ensemble, load_ensemble
from fewshot.inference.predictor import NOTICE, Predictor
from fewshot.inference.support import load_support_folder, support_facts
from fewshot.methods.uncertainty import mean_prediction

TOLERANCE = 1e-4
"""How far a value may be from the original's: absolutely up to 1, and in proportion above."""
_CPU = torch.device("cpu")
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def adapt_for_export(loaded: LoadedMethod, support: Support | None) -> Predictor:
    """Adapt a method, if its predictions are a function of the images alone.

    Raises:
        UserError: if they are random, or the method takes what it knows from the source datasets.
    """
    sampling = getattr(loaded.method, "sampling", None)
    if getattr(sampling, "dropout_samples", 0):
        raise UserError("dropout_samples: an export computes the same each time; leave dropout_samples out")
    try:
        return adapt_ensemble([loaded], support)
    except DatasetError as error:
        if loaded.method.uses_support:
            raise
        raise UserError(
            f"{type(loaded.method).__name__}: adapts to source datasets, which a checkpoint does not hold;"
            " export another method"
        ) from error


class Baked(nn.Module):
    """A method after it has adapted, as a network."""

    def __init__(self, loaded: LoadedMethod, predictor: Predictor) -> None:
        super().__init__()
        self.loaded = loaded
        self.predictor = predictor
        self.outputs = ("probabilities", "logits", *(("labels",) if loaded.labels else ()))
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return probabilities and logits (n, 1 + n_classes, H, W), and labels' probabilities (n, n_labels) if any."""
        prediction = mean_prediction(self.predictor.predictions(images))
        logits = prediction.classes.float()
        labels = () if prediction.labels is None or not self.loaded.labels else (prediction.labels.float().softmax(1),)
        return logits.softmax(1), logits, *labels


Run = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]


def write_onnx(baked: Baked, size: int, path: Path, facts: Mapping[str, str]) -> None:
    """Write a network as ONNX, its weights within.

    It is on the CPU, for images of one size; the facts are the file's metadata.

    Raises:
        UserError: if something that it computes cannot be expressed.
    """
    # Two images: of a single one PyTorch would take their number to be always one.
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                baked,
                (example,),
                input_names=["images"],
                output_names=list(baked.outputs),
                dynamic_shapes={"images": {0: torch.export.Dim("n", max=65_536)}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise UserError(
                f"{type(baked.loaded.method).__name__}: cannot be exported ({in_short(cause)}); export another method"
            ) from error
        assert program is not None  # noqa: S101 - only the older exporter returns nothing
        # PyTorch notes for each node where in the program it comes from: paths, which may say whose computer it was.
        for graph in program.model.graphs():
            for node in graph:
                node.metadata_props.clear()
        program.model.metadata_props.update(facts)
        program.save(path, external_data=False)


def require_same_outputs(path: Path, baked: Baked, images: Tensor, origin: Path) -> float:
    """Run what was written beside the original, one image at a time and all at once.

    The images are (n, 3, H, W) in [0, 1]; errors name what the file is going to be called, `origin`.

    Returns:
        The largest difference, absolute where values are up to 1, and in proportion above.

    Raises:
        UserError: if it is above `TOLERANCE`.
    """
    run = open_session(path)
    largest = 0.0
    for batch in (*(images[[place]] for place in range(len(images))), images):
        with torch.inference_mode():
            expected = [output.numpy() for output in baked(batch)]
        for name, ours, theirs in zip(baked.outputs, expected, run(batch.numpy()), strict=True):
            difference = float((np.abs(ours - theirs) / np.maximum(1, np.abs(ours))).max())
            if not (ours.shape == theirs.shape and difference <= TOLERANCE):  # NaN is not
                raise UserError(
                    f"{origin}: not written: its {name} would differ from the original's by {difference:.2g}, more than"
                    f" {TOLERANCE:g}; export another method"
                )
            largest = max(largest, difference)
    return largest


def open_session(path: Path) -> Run:
    """Return a function from images (n, 3, H, W) to the outputs of an ONNX file, computed on the CPU."""
    onnxruntime = import_module("onnxruntime")  # an extra, and without types
    onnxruntime.disable_telemetry_events()  # off in most builds; nothing is to be sent in any
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        outputs: Sequence[NDArray[np.float32]] = session.run(None, {"images": images})
        return outputs

    return run


def trial_images(size: int) -> Tensor:
    """Generate noise and two phantoms, (4, 3, H, W) in [0, 1]."""
    noise: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (2, size, size), dtype=np.uint8)
    phantoms = [phantom.image for phantom in generate(PhantomSpec("linear", n_images=2, size=size))]
    return image_tensor(np.concatenate([noise, np.stack(phantoms)]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter says of its own workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """The network to export, and its support set."""

    checkpoint: Path  # of the network
    support: Path | None = None  # a folder of annotated images to adapt to; None to use the method without any
    method: str | None = None  # its name as in a benchmark; None for the one that goes with the network
    shots: int | None = None  # how many of the annotated images, the first by name; None for all
    options: Mapping[str, Any] = field(default_factory=dict)  # of the method
    trust: Sequence[str] = ()  # modules that the network may be of
    invert_masks: bool = False  # whether the masks of the annotated images have a light ground


def export_checkpoint(request: ExportRequest, out: Path, *, overwrite: bool = False) -> float:
    """Adapt a method, and write it as ONNX if what was written computes the same.

    The name of the file ends in `.onnx`.

    Returns:
        The largest difference from the original that was found.

    Raises:
        UserError: if a package is missing, the file exists or has another suffix, the method needs annotated images or
            uses none, takes what it knows from source datasets, or cannot be exported; or if the export differs.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise UserError(f"{', '.join(missing)}: not installed; pip install 'fewshot-bus[export]'")
    if out.suffix != ".onnx":
        raise UserError(f"{out}: ONNX is written; give a name that ends in .onnx")
    require_free(out, overwrite=overwrite)
    (loaded,) = load_ensemble(
        [request.checkpoint],
        request.method,
        request.options,
        _CPU,
        with_support=request.support is not None,
        trust=request.trust,
    )
    size = loaded.image_size
    support = None
    if request.support is not None:
        support = load_support_folder(request.support, size, request.shots, invert_masks=request.invert_masks)
    baked = Baked(loaded, adapt_for_export(loaded, support))
    images = trial_images(size) if support is None else torch.cat([trial_images(size), support.images.flatten(0, 1)])
    facts = _facts(request, loaded, support)
    with written_whole(out) as partial:
        write_onnx(baked, size, partial, facts)
        return require_same_outputs(partial, baked, images, out)


def _support_facts(support: Support | None) -> dict[str, Any] | None:
    """Return the hashes of a support set without its names: a model is passed on, and they say who is in it."""
    facts = support_facts(support)
    return None if facts is None else {key: value for key, value in facts.items() if key != "images"}


def _facts(request: ExportRequest, loaded: LoadedMethod, support: Support | None) -> dict[str, str]:
    """Return the file's metadata, by key; values that are no text are JSON."""
    kind = type(loaded.method)
    return {
        "notice": NOTICE,
        "fewshot_version": __version__,
        "checkpoint_sha256": file_hash(request.checkpoint),
        "network": str(loaded.facts["model"]["network"]),
        "method": request.method or f"{kind.__module__}:{kind.__qualname__}",
        "options": json.dumps(dict(request.options), sort_keys=True, default=str),
        "image_size": str(loaded.image_size),
        "input": "images: float32 (n, 3, H, W) in [0, 1], grey in all three channels, stretched to image_size",
        "classes": json.dumps(["background", *loaded.classes]),
        "labels": json.dumps(loaded.labels),
        "support": json.dumps(_support_facts(support)),
    }
