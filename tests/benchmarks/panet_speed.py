"""PANet in batches against plain loops, and matching against encoding, in one run.

A training step on ResNet-50 up to layer3 (5-shot, 1-way, one query an episode) is run in one batch, and shot by shot as
PANet's own code does it: images encoded one by one, features upsampled to the mask's size, loops over episodes, ways
and shots. Batch norms are frozen, so that all of them compute the same. Each runs in a process of its own, which tells
the memory of the step alone. Seconds are of the clock, and the ways take turns.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.encoders import Encoder
from episodes.sampling.episode import Support
from fewshot.features import GIB, Features
from fewshot.panet.network import PANet
from tests.benchmarks.measurements import (
    Measurement,
    Wanted,
    at_least,
    at_most,
    bytes_on_top,
    figure,
    interleaved,
    measured,
    not_measured,
    ratios,
)
from tests.fewshot import plain_panet

ENCODER, N_SHOT, STRIDE, SIZE = "resnet50", 5, 8, 256
N_BATCHED = 8  # episodes of one forward pass
AT_ONCE = 5  # queries segmented one after the other, of which one is too quick for a clock
FULL: dict[str, Any] = {"attention": True, "prior": True, "grid": 4, "self_support": True, "matched_levels": 2}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "published": ("published form", {}),
    "options": ("attention, prior, grid, self-support, two levels", FULL),
    "decoder": ("all of that with a decoder", {**FULL, "decoder_channels": (64, 32, 16)}),
}


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step takes, and what it computes; `memory` is in bytes, None where the system does not tell."""

    seconds: float
    memory: int | None
    loss: float
    gradient: Tensor


def measure(*, full: bool = False) -> list[Measurement]:
    """How long each way takes and how much memory; `full` takes larger steps, and batches that do not pay."""
    return [
        *measure_training(4 if full else 2, repeats=3 if full else 2),
        *(measurement for encoder in (ENCODER, "resnet18") for measurement in measure_queries(encoder)),
        *(measure_batches() if full else []),
    ]


def measure_training(n_episodes: int, repeats: int) -> list[Measurement]:
    def step(batched: bool, lean: bool) -> Step:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(training_step, batched, lean, n_episodes).result()

    ours, plain = zip(*((step(True, True), step(False, False)) for _ in range(repeats)), strict=True)
    plain_lean = step(False, True)
    for other in (*plain, plain_lean):
        apart = float((ours[0].gradient - other.gradient).norm() / other.gradient.norm())
        if max(apart, abs(ours[0].loss - other.loss)) > 1e-3:
            raise AssertionError(f"losses {ours[0].loss} and {other.loss}, gradients {apart:.1e} apart")
    what = f"{n_episodes} episodes of {N_SHOT} shots, {ENCODER} to layer3, stride {STRIDE}, {SIZE}x{SIZE}"
    return [
        measured(
            "panet.step",
            f"a PANet training step, times as fast as shot by shot with upsampled features ({what})",
            ratios([step.seconds for step in plain], [step.seconds for step in ours]),
            "x",
            wanted=at_least(1.5),
        ),
        measure_memory(
            "panet.memory", "... the memory of a step, of what it takes shot by shot", ours, plain, at_most(0.5)
        ),
        measure_memory("panet.lean", "... of what that takes with our lean batch norms", ours, [plain_lean] * repeats),
        measured("panet.seconds", "... such a step", [step.seconds for step in ours], "s"),
    ]


def measure_memory(
    key: str, what: str, ours: Sequence[Step], plain: Sequence[Step], wanted: Wanted | None = None
) -> Measurement:
    found = [(one.memory, other.memory) for one, other in zip(ours, plain, strict=True)]
    told = [one / other for one, other in found if one is not None and other is not None]
    if len(told) < len(found):
        return not_measured(key, what, "the system does not tell the memory of a step alone", wanted=wanted)
    note = f"{figure((ours[0].memory or 0) / GIB)} GiB of {figure((plain[0].memory or 0) / GIB)} GiB"
    return measured(key, what, told, "x", wanted=wanted, note=note)


def training_step(batched: bool, lean: bool, n_episodes: int) -> Step:
    """Forward and backward pass in this process, which has done nothing else before."""
    network, batch = seeded_panet(ENCODER, (3,), lean), random_episodes(n_episodes, SIZE)
    network.encoder(batch["query_images"][:1, 0, :, :64, :64])  # what is done once
    losses = []

    def step() -> None:
        loss = batched_loss(network, batch) if batched else plain_loss(network, **batch)
        loss.backward()
        losses.append(float(loss.detach()))

    # One step alone: the allocator leaves holes from step to step, which is no part of what a step needs.
    begin = perf_counter()
    memory = bytes_on_top(step)
    seconds = perf_counter() - begin
    weight = network.encoder.get_parameter("network.conv1.weight")
    assert weight.grad is not None
    return Step(seconds, memory, losses[0], weight.grad)


def batched_loss(network: PANet, batch: dict[str, Tensor]) -> Tensor:
    losses = network.loss(**batch)
    if losses["unaligned"]:
        raise AssertionError("a query without predicted lesion spares the loops their alignment")
    return losses["loss"]


def plain_loss(
    network: PANet, support_images: Tensor, support_masks: Tensor, query_images: Tensor, query_masks: Tensor
) -> Tensor:
    def encoded(image: Tensor) -> Tensor:
        features: Tensor = network.encoder(image.unsqueeze(0))[-1][0]
        return features

    losses = []
    for images, masks, queries, truths in zip(support_images, support_masks, query_images, query_masks, strict=True):
        support = torch.stack([torch.stack([encoded(image) for image in way]) for way in images])
        query = torch.stack([encoded(image) for image in queries])
        logits = plain_panet.match(query, plain_panet.prototypes_of(support, masks))
        segmentation = F.cross_entropy(plain_panet.upsample(logits, masks.shape[-2:]), truths)
        losses.append(segmentation + plain_panet.alignment(support, masks, query, logits))
    return torch.stack(losses).mean()


def measure_batches(size: int = 128) -> list[Measurement]:
    network, batch = seeded_panet(ENCODER, (3,)), random_episodes(N_BATCHED, size)
    with torch.inference_mode():
        support, query = network.encode(batch["support_images"]), network.encode(batch["query_images"])
        masks = batch["support_masks"]

        def matched(support: Features, query: Features, masks: Tensor) -> Tensor:
            return network.match(query, network.learn(support, masks)).final

        def from_images(rows: slice) -> Tensor:
            images = torch.cat([batch["support_images"][rows].flatten(1, 2), batch["query_images"][rows]], dim=1)
            (level,), images_size = network.encode(images).levels, (size, size)
            support = Features((level[:, :N_SHOT].unsqueeze(1),), images_size)
            return matched(support, Features((level[:, N_SHOT:],), images_size), masks[rows])

        def from_features(rows: slice) -> Tensor:
            return matched(*(Features((part.deepest[rows],), part.size) for part in (support, query)), masks[rows])

        def one_by_one(forward: Callable[[slice], Tensor]) -> Tensor:
            return torch.cat([forward(slice(row, row + 1)) for row in range(N_BATCHED)])

        found = []
        for name, forward, repeats in (("images", from_images, 3), ("features", from_features, 20)):
            torch.testing.assert_close(forward(slice(None)), one_by_one(forward), rtol=1e-3, atol=1e-3)
            slow, fast = interleaved(partial(one_by_one, forward), partial(forward, slice(None)), repeats=repeats)
            what = f"{N_BATCHED} episodes from {name} in one forward pass, times as fast as one by one ({size}x{size})"
            found.append(measured(f"panet.batch.{name}", what, ratios(slow, fast), "x"))
        return found


def measure_queries(name: str) -> list[Measurement]:
    encoder = seeded_encoder(name, (0, 1, 2, 3))
    episode = {key: part[0] for key, part in random_episodes(1, SIZE).items()}
    support, found = Support(episode["support_images"], episode["support_masks"]), []
    with torch.inference_mode():
        encode = PANet(encoder).encode
        features, queries = encode(support.images), encode(episode["query_images"])
        for key, (form, options) in FORMS.items():
            network = seeded(lambda options=options: PANet(encoder, **options)).eval()
            adapted = network.adapt(support, features)
            times, encoding = interleaved(
                partial(segment_often, network, queries, adapted), partial(encode, episode["query_images"]), repeats=5
            )
            segmenting = [seconds / AT_ONCE for seconds in times]
            found.append(
                measured(
                    f"panet.query.{name}.{key}",
                    f"a query segmented from its features, of encoding it ({name}, {form})",
                    [100 * share for share in ratios(segmenting, encoding)],
                    "%",
                    wanted=None if "decoder_channels" in options else at_most(15),
                    note=f"{figure(1e3 * median(segmenting))} ms",
                )
            )
    return found


def segment_often(network: PANet, queries: Features, adapted: Any) -> None:
    for _ in range(AT_ONCE):
        network.segment(queries, adapted)


def seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def seeded_encoder(name: str, levels: tuple[int, ...], lean: bool = True) -> Encoder:
    """An encoder with frozen batch norms: our lean ones, or torch's own."""
    encoder: Encoder = seeded(lambda: Encoder(name, levels=levels, output_stride=STRIDE, freeze_norm=lean))
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    return encoder.eval()


def seeded_panet(name: str, levels: tuple[int, ...], lean: bool = True) -> PANet:
    network: PANet = seeded(lambda: PANet(seeded_encoder(name, levels, lean)))
    return network.eval()  # which freezes batch norms, and changes nothing else


def random_episodes(n_episodes: int, size: int) -> dict[str, Tensor]:
    """Episodes of noise with a dark ellipse, as `PANet.loss` takes them."""
    generator = torch.Generator().manual_seed(0)
    shape = (n_episodes, 1 + N_SHOT)
    rows, columns = (place / size for place in torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"))
    y, x = (torch.rand(2, *shape, 1, 1, generator=generator) * 0.4 + 0.3).unbind()
    masks = (((rows - y) / 0.15) ** 2 + ((columns - x) / 0.2) ** 2 < 1).float()
    grey = 0.5 + 0.3 * torch.rand(*shape, size, size, generator=generator) - 0.4 * masks
    images = grey.unsqueeze(2).repeat(1, 1, 3, 1, 1)
    return {
        "support_images": images[:, None, :N_SHOT],
        "support_masks": masks[:, None, :N_SHOT],
        "query_images": images[:, N_SHOT:],
        "query_masks": masks[:, N_SHOT:].long(),
    }
