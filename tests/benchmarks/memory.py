"""Features that spill: the memory that 10,000 images need, and what reading them from disk costs, in one run.

10,000 made-up images of 256x256 are encoded to maps of the size of ResNet-50's layer3 (1024 channels, output stride 16,
10 GB in all, by arithmetic that costs next to nothing), and queries of 20 episodes are segmented by PANet, in a process
of its own that tells the most memory that it had resident, and how much of it was no file's. What spilling costs is
measured on 600 images at output stride 8, 4 MB each as in the benchmark of features: on such an encoder, which makes
the most of it, and on ResNet-50 itself, which is what users wait for.
"""

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from episodes.records import Record
from episodes.storage.store import IMAGES, LABEL_MAPS, Collection, Pixels
from fewshot.benchmark.evaluation import STATUS, peak_bytes, start_peak
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.features import FEATURE_MEMORY, GIB, release_pages
from fewshot.inference.target import EncodedTarget, Segmented, Task, segment_queries
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.prototypical import SupportPrototypes
from fewshot.networks import seeded_network
from fewshot.panet.network import PANet
from fewshot.stores import default_cache

CPU = torch.device("cpu")
SIZE, CHANNELS, N_SHOT, N_QUERY = 256, 1024, 5, 25
N_MANY, N_FEW, N_ENCODED = 10_000, 600, 24
N_EPISODES = 20
LIMIT = 2 * GIB


@dataclass(frozen=True)
class MadeStore:
    """Stands for a store, as far as evaluation looks at it."""

    folder: Path
    records: tuple[Record, ...]

    @cached_property
    def images(self) -> Pixels:
        return self._pixels(IMAGES)

    @cached_property
    def label_maps(self) -> Pixels:
        return self._pixels(LABEL_MAPS)

    def _pixels(self, name: str) -> Pixels:
        mapped = np.load(self.folder / name, mmap_mode="r")
        crcs = [crc32(one) for one in mapped]
        release_pages(mapped)
        return Pixels(mapped, self.folder / name, crcs, [record.id for record in self.records])


class Averages(nn.Module):
    """Stands for an encoder: the image's cell averages, with 1024 weights, through a rectifier."""

    channels = (CHANNELS,)

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weights", torch.randn(CHANNELS, 1, 1, generator=generator))
        self.register_buffer("offsets", torch.randn(CHANNELS, 1, 1, generator=generator) / 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        averages = F.avg_pool2d(images[:, :1], self.stride)
        return [torch.addcmul(self.get_buffer("offsets"), averages, self.get_buffer("weights")).relu_()]


@dataclass(frozen=True, slots=True)
class Peak:
    """Memory in bytes, and what took how long."""

    before: int
    highest: int
    anonymous: int
    on_disk: int
    encode_seconds: float
    episode_seconds: float


def measure() -> list[str]:
    """Lines that say how much memory spilled features need, and how much slower they are."""
    lines = [
        f"{torch.get_num_threads()} thread(s), {SIZE}x{SIZE}, {CHANNELS} channels, limit of {FEATURE_MEMORY:,} bytes"
    ]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        peak = process.submit(spilled_peak).result()
    lines += [
        f"{N_MANY:,} images, output stride 16: {peak.on_disk / GIB:.1f} GiB of features",
        f"encoded in {peak.encode_seconds:.0f} s, {N_EPISODES} episodes in {peak.episode_seconds:.0f} s",
        f"at most {peak.highest / GIB:.2f} GiB resident (at most {LIMIT / GIB:.0f} wanted)",
        f"{peak.before / GIB:.2f} GiB before the first image; at the end {peak.anonymous / GIB:.2f} GiB are no file",
    ]
    with TemporaryDirectory(dir=_cache()) as folder:
        store = made_store(Path(folder), N_FEW)
        lines += cost_lines("an encoder that costs nothing", store, lambda: panet(8), N_FEW)
        lines += cost_lines("ResNet-50", store, resnet, N_ENCODED)
    return lines


def spilled_peak() -> Peak:
    """Encode and segment in this process, which has done nothing else before."""
    with TemporaryDirectory(dir=_cache()) as folder:
        store, method = made_store(Path(folder), N_MANY), panet(16)
        target = EncodedTarget(store, CPU)
        start_peak(CPU)
        before = peak_bytes(CPU) or 0
        _, encode_seconds = timed(lambda: target.features(method.encode))
        _, episode_seconds = timed(lambda: [answers(method, target, task) for task in tasks(store)])
        on_disk = N_MANY * CHANNELS * (SIZE // 16) ** 2 * 4
        return Peak(before, peak_bytes(CPU) or 0, anonymous_bytes(), on_disk, encode_seconds, episode_seconds)


def cost_lines(what: str, store: MadeStore, network: Callable[[], PANet], n_images: int) -> list[str]:
    """The same work on features in memory and on disk, from images of a part of a store."""
    part = MadeStore(store.folder, store.records[:n_images])
    method = prototypes(network(), part)
    seconds: dict[str, tuple[float, float]] = {}
    found: dict[str, list[list[Segmented]]] = {}
    for place, memory in (("in memory", 2**40), ("on disk", 0)):
        target = EncodedTarget(part, CPU, memory=memory)
        _, encoding = timed(lambda target=target: target.features(method.encode))  # type: ignore[misc]
        found[place], episodes = timed(
            lambda target=target: [answers(method, target, task) for task in tasks(part)]  # type: ignore[misc]
        )
        seconds[place] = encoding, episodes
    require_same(found["in memory"], found["on disk"])
    lines = [f"{what}, {n_images} images at output stride 8"]
    for place, (encoding, episodes) in seconds.items():
        lines.append(f"{place}: encoding {encoding:.2f} s, {N_EPISODES} episodes {episodes:.2f} s")
    ratio = sum(seconds["on disk"]) / sum(seconds["in memory"])
    return [*lines, f"on disk {ratio:.2f}x the time of memory, with the same bits"]


def require_same(first: list[list[Segmented]], second: list[list[Segmented]]) -> None:
    for left, right in zip(chain(*first), chain(*second), strict=True):
        if not np.array_equal(left.probability, right.probability):
            raise AssertionError(f"{left.id}: other probabilities from disk than from memory")


def answers(method: SupportPrototypes, target: EncodedTarget, task: Task) -> list[Segmented]:
    return list(segment_queries(method, target, task))


def tasks(store: MadeStore) -> list[Task]:
    """Episodes whose images lie anywhere."""
    generator = np.random.default_rng(0)
    ids = [record.id for record in store.records]
    n_query = min(N_QUERY, len(ids) - N_SHOT)
    chosen = [generator.choice(len(ids), N_SHOT + n_query, replace=False) for _ in range(N_EPISODES)]
    return [
        Task(tuple(ids[place] for place in places[:N_SHOT]), tuple(ids[place] for place in places[N_SHOT:]))
        for places in chosen
    ]


def panet(stride: int) -> PANet:
    return PANet(Averages(stride)).eval()  # type: ignore[arg-type]


def resnet() -> PANet:
    model = ModelConfig(network="panet", levels=(3,), output_stride=8)
    return seeded_network(EncoderConfig(name="resnet50"), model, seed=0).eval()  # type: ignore[return-value]


def prototypes(network: PANet, store: MadeStore) -> SupportPrototypes:
    return SupportPrototypes(Ingredients(network, Sources(Collection([store]), store.records), CPU))


def made_store(folder: Path, count: int) -> MadeStore:
    """Noise with a bright square, another one in every image, which is its lesion."""
    generator = np.random.default_rng(0)
    shape = (count, SIZE, SIZE)
    noise = generator.integers(0, 128, (16, SIZE, SIZE), dtype=np.uint8)
    images, label_maps = (
        np.lib.format.open_memmap(folder / name, "w+", np.uint8, shape) for name in (IMAGES, LABEL_MAPS)
    )
    for row in range(count):
        top, left = generator.integers(0, SIZE - 64, 2)
        label_maps[row, top : top + 64, left : left + 64] = 1
        images[row] = noise[row % len(noise)] + 100 * label_maps[row]
    records = tuple(
        Record("made", Path(f"{row:05d}.png"), (Path(f"{row:05d}-mask.png"),), "benign", str(row))
        for row in range(count)
    )
    return MadeStore(folder, records)


def anonymous_bytes() -> int:
    """Resident memory that is no file's, which the system cannot take back."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", STATUS.read_text(), flags=re.MULTILINE)
    return 0 if found is None else int(found[1]) * 1024


def timed(work: Callable[[], object]) -> tuple[object, float]:
    began = perf_counter()
    return work(), perf_counter() - began


def _cache() -> Path:
    folder = default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
