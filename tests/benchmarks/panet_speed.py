"""PANet in batches against plain loops, and matching against encoding, in one run.

A training step on ResNet-50 up to layer3 (5-shot, 1-way, one query an episode) is run in one batch, and shot by shot as
PANet's own code does it: images encoded one by one, features upsampled to the mask's size, loops over episodes, ways
and shots. Batch norms are frozen, so that all of them compute the same. Each runs in a process of its own, which tells
its peak memory. Seconds are CPU time, which other work on the machine changes little.
"""

import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from time import process_time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.encoders import Encoder
from episodes.sampling.episode import Support
from fewshot.features import Features
from fewshot.panet.network import PANet
from tests.fewshot import plain_panet

ENCODER, N_SHOT, STRIDE = "resnet50", 5, 8
N_BATCHED = 8  # episodes of one forward pass
FULL: dict[str, Any] = {"attention": True, "prior": True, "grid": 4, "self_support": True, "matched_levels": 2}
FORMS: dict[str, dict[str, Any]] = {
    "the published form": {},
    "attention, prior, grid, self-support, two levels": FULL,
    "all of that with a decoder": {**FULL, "decoder_channels": (64, 32, 16)},
}


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step takes, and what it computes."""

    seconds: float
    megabytes: float
    loss: float
    gradient: Tensor


def measure(*, full: bool = False) -> list[str]:
    """Lines that say how long each way takes and how much memory.

    Args:
        full: 256x256 and 4 episodes a step, twice each, instead of 128x128 and 2 episodes, once.
    """
    size, n_episodes, repeats = (256, 4, 2) if full else (128, 2, 1)
    return [
        f"{torch.get_num_threads()} thread(s), float32, CPU time, best of {repeats}",
        *training_lines(size, n_episodes, repeats),
        *batch_lines(size, repeats),
        *(line for encoder in (ENCODER, "resnet18") for line in share_lines(encoder)),
    ]


def training_lines(size: int, n_episodes: int, repeats: int) -> list[str]:
    def measured(batched: bool, lean: bool) -> Step:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(training_step, batched, lean, size, n_episodes, repeats).result()

    ours = measured(batched=True, lean=True)
    what = f"{ENCODER} to layer3, output stride {STRIDE}, {size}x{size}, {n_episodes} episodes, {N_SHOT}-shot"
    lines = [f"training step, {what}: {ours.seconds:.1f} s, {ours.megabytes:.0f} MB at its peak"]
    # Small images leave most of the memory to what does not grow with them: weights, gradients and work space.
    wanted = " (with torch's batch norms at least 1.5x and at most 0.50x wanted)" if size == 256 else ""
    for norms in ("torch's", "our lean"):
        plain = measured(batched=False, lean=norms != "torch's")
        apart = float((ours.gradient - plain.gradient).norm() / plain.gradient.norm())
        if max(apart, abs(ours.loss - plain.loss)) > 1e-3:
            raise AssertionError(f"losses {ours.loss} and {plain.loss}, gradients {apart:.1e} apart")
        faster, smaller = plain.seconds / ours.seconds, ours.megabytes / plain.megabytes
        lines += [
            f"shot by shot, {norms} frozen batch norms: {plain.seconds:.1f} s, {plain.megabytes:.0f} MB",
            f"one batch: {faster:.1f}x as fast, {smaller:.2f}x the memory{wanted}, gradients {apart:.0e} apart",
        ]
        wanted = ""
    return lines


def training_step(batched: bool, lean: bool, size: int, n_episodes: int, repeats: int) -> Step:
    """Forward and backward passes in this process, which has done nothing else before."""
    network, batch = seeded_panet(ENCODER, (3,), lean), random_episodes(n_episodes, size)
    network.encoder(batch["query_images"][:1, 0, :, :64, :64])  # what is done once
    before = peak_megabytes()

    def step() -> float:
        network.zero_grad(set_to_none=True)
        loss = batched_loss(network, batch) if batched else plain_loss(network, **batch)
        loss.backward()
        return float(loss.detach())

    loss, seconds = timed(step, 1)
    # Of the first step alone: the allocator leaves holes from step to step, which is no part of what a step needs.
    megabytes = peak_megabytes() - before
    if repeats > 1:
        seconds = min(seconds, timed(step, repeats - 1)[1])
    weight = network.encoder.get_parameter("network.conv1.weight")
    assert weight.grad is not None
    return Step(seconds, megabytes, loss, weight.grad)


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


def batch_lines(size: int, repeats: int) -> list[str]:
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

        lines = []
        for name, forward, times in (("images", from_images, repeats), ("features", from_features, 20)):
            together, fast = timed(lambda forward=forward: forward(slice(None)), times)
            single, slow = timed(
                lambda forward=forward: [forward(slice(row, row + 1)) for row in range(N_BATCHED)], times
            )
            torch.testing.assert_close(together, torch.cat(single), rtol=1e-3, atol=1e-3)
            lines.append(
                f"forward pass of {N_BATCHED} episodes from {name}: {fast:.3f} s in one batch, {slow:.3f} s one by one;"
                f" {slow / fast:.2f}x as fast"
            )
    return lines


def share_lines(name: str, size: int = 256) -> list[str]:
    encoder = seeded_encoder(name, (0, 1, 2, 3))
    episode = {key: part[0] for key, part in random_episodes(1, size).items()}
    support, lines = Support(episode["support_images"], episode["support_masks"]), []
    with torch.inference_mode():
        encode = PANet(encoder).encode
        features, (queries, encoding) = encode(support.images), timed(lambda: encode(episode["query_images"]), 3)
        for form, options in FORMS.items():
            network = seeded(lambda options=options: PANet(encoder, **options)).eval()
            adapted = network.adapt(support, features)
            _, segmenting = timed(lambda network=network, adapted=adapted: network.segment(queries, adapted), 10)
            wanted = "" if "decoder_channels" in options else " (at most 15 % wanted)"
            lines.append(
                f"{name}, {size}x{size}: a query is segmented in {1e3 * segmenting:.1f} ms by {form},"
                f" {segmenting / encoding:.1%} of encoding it{wanted}"
            )
    return lines


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


def timed(work: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """A result, and the CPU time of the quickest of several runs."""
    times = []
    for _ in range(repeats):
        begin = process_time()
        result = work()
        times.append(process_time() - begin)
    return result, min(times)


def peak_megabytes() -> float:
    """The most memory that this process has ever had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
