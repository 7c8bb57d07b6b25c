"""`fewshot predict` against what it cannot do without: the network's forward passes, and the start of torch.

Wanted are at least 0.75 of the images per second that the bare network takes in with the same batches, everything
written (mask, probabilities, overlay, row), on one thread of torch with another processor for reading and writing; and
at most 4 s from the start of the command to the first mask.
"""

import io
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import torch
from PIL import Image
from rich.console import Console

from episodes.phantoms.population import PhantomSpec, generate
from fewshot.checkpoints import network_tensors, save_checkpoint
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.devices import default_batch_size
from fewshot.inference.out_of_distribution import TrainingFeatures
from fewshot.networks import seeded_network
from fewshot.predict.run import PredictionRequest, load_model, predict_folder
from fewshot.terminal import Reporter
from tests.benchmarks.measurements import Measurement, at_least, at_most, interleaved, measured, ratios

SIZE, N_IMAGES, REPEATS, STARTS = 160, 120, 3, 5
CPU = torch.device("cpu")
ENCODER = EncoderConfig(name="resnet18")
MODEL = ModelConfig(
    network="unet",
    levels=(0, 1, 2, 3),
    output_stride=16,
    options={"decoder_channels": (64, 32, 16), "dropout": 0.1},
)
SIZES = {"256 x 256": (256, 256), "500 x 500": (500, 500)}  # phantoms' size, and the average one of BUSI as published


def measure() -> list[Measurement]:
    """How fast images of two sizes are predicted, and how soon the first mask is there."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint = write_checkpoint(folder / "unet.safetensors")
        found = []
        for shown, size in SIZES.items():
            images = write_images(folder / shown, size)
            found += speed(checkpoint, images, folder / "out", shown)
        seconds = [first_mask(checkpoint, images, folder / "out") for _ in range(STARTS + 1)][1:]
        what = "from the start of the command to the first mask, U-Net on ResNet-18"
        return [*found, measured("predict.first", what, seconds, "s", wanted=at_most(4))]


def write_checkpoint(path: Path) -> Path:
    """A network that was never trained, with what it knows of 500 training images."""
    network = seeded_network(ENCODER, MODEL, 0)
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.rand(500, 256, generator=generator), dim=1)
    known = TrainingFeatures(features, torch.rand(500, generator=generator) + 0.1)
    facts = {
        "encoder": ENCODER.model_dump(mode="json"),
        "model": MODEL.model_dump(mode="json"),
        "image_size": SIZE,
    }
    save_checkpoint(path, network_tensors(network) | known.tensors(), facts)
    return path


def write_images(folder: Path, size: tuple[int, int]) -> Path:
    folder.mkdir()
    for place, phantom in enumerate(generate(PhantomSpec("portable", N_IMAGES))):
        Image.fromarray(phantom.image).resize(size).save(folder / f"{place:03d}.png")
    return folder


def speed(checkpoint: Path, images: Path, out: Path, shown: str) -> list[Measurement]:
    """Predict all images and let the network see as many, in turn, on one thread."""
    request = PredictionRequest(checkpoint, str(images), device="cpu")
    with one_thread(), silent_logs(), torch.inference_mode():
        network = load_model(request).method.network.eval()  # type: ignore[attr-defined]
        batch = torch.rand(default_batch_size(CPU), 3, SIZE, SIZE)

        def predicted() -> None:
            shutil.rmtree(out, ignore_errors=True)
            predict_folder(request, out, Reporter(Console(file=io.StringIO())))

        def bare() -> None:
            for _ in range(N_IMAGES // len(batch)):
                network(batch)

        ours, forward = interleaved(predicted, bare, repeats=REPEATS)
    return [
        measured(
            f"predict.{shown}",
            f"images of {shown} predicted and written, times as fast as U-Net alone ({SIZE} px, one thread)",
            ratios(forward, ours),
            "x",
            wanted=at_least(0.75),
        ),
        measured(f"predict.{shown}.seconds", "... a second", [N_IMAGES / one for one in ours], "images/s"),
        measured(
            f"predict.{shown}.network", "... by the network alone", [N_IMAGES / one for one in forward], "images/s"
        ),
    ]


def first_mask(checkpoint: Path, images: Path, out: Path) -> float:
    """Start the command and wait for the first mask, in seconds."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "fewshot", "predict", str(checkpoint), "--images", str(images), "--out", str(out)]
    begin = perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, "--device", "cpu"], **quiet) as running:  # noqa: S603
        while not any((out / "masks").glob("*.png")):
            if running.poll() is not None:
                raise RuntimeError(f"fewshot predict ended with {running.returncode} before its first mask")
            sleep(0.005)
        seconds = perf_counter() - begin
        running.terminate()
    return seconds


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def silent_logs() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
