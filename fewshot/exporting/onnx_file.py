"""Write a network as ONNX, and hold what was written against the original."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.episode import image_tensor
from episodes.errors import UserError, in_short
from episodes.phantoms import PhantomSpec, generate
from fewshot.exporting.baked import Baked

TOLERANCE = 1e-4
"""How far a value may be from the original's: absolutely up to 1, and in proportion above."""

Run = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]


def write_onnx(baked: Baked, size: int, path: Path, facts: Mapping[str, str]) -> None:
    """Write a network as ONNX, its weights within.

    Args:
        baked: the network, on the CPU.
        size: of its images.
        path: of the file.
        facts: its metadata.

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
                f"{type(baked.member.method).__name__}: cannot be exported ({in_short(cause)}); export another method"
            ) from error
        assert program is not None  # noqa: S101 - only the older exporter returns nothing
        program.model.metadata_props.update(facts)
        program.save(path, external_data=False)


def require_same(path: Path, baked: Baked, images: Tensor, origin: Path) -> float:
    """Run what was written beside the original, one image at a time and all at once.

    Args:
        path: of the ONNX file.
        baked: the original.
        images: (n, 3, H, W) in [0, 1].
        origin: what the file is going to be called, for errors.

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
    """A function from images (n, 3, H, W) to the outputs of an ONNX file, computed on the CPU."""
    onnxruntime = import_module("onnxruntime")  # an extra, and without types
    onnxruntime.disable_telemetry_events()  # off in most builds; nothing is to be sent in any
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        outputs: Sequence[NDArray[np.float32]] = session.run(None, {"images": images})
        return outputs

    return run


def trial_images(size: int) -> Tensor:
    """Noise and two phantoms, (4, 3, H, W) in [0, 1]."""
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
