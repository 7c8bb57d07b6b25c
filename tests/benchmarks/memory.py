"""Features that spill: the memory that 10,000 images need, and what reading them from disk costs, in one run.

10,000 made-up images of 256x256 are encoded to maps of the size of ResNet-50's layer3 (1024 channels, output stride 16,
10 GB in all, by arithmetic that costs next to nothing), and queries of 20 episodes are segmented by PANet, in a process
of its own that tells how much memory that took, and how much of it was no file's; unless `full` is set, a quarter of
them, with a quarter of the memory for features. What spilling costs is measured on 200 images at output stride 8, 4 MB
each as in the benchmark of features: on such an encoder, which makes the most of it, and on ResNet-50 itself, which is
what users wait for.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
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
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.features import FEATURE_MEMORY, GIB, release_pages
from fewshot.inference.target import EncodedTarget, Segmented, Task, segment_queries
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.prototypical import SupportPrototypes
from fewshot.networks import seeded_network
from fewshot.panet.network import PANet
from fewshot.stores import default_cache
from tests.benchmarks.measurements import (
    Measurement,
    at_most,
    bytes_on_top,
    figure,
    interleaved,
    measured,
    not_measured,
    ratios,
    resident_bytes,
)

CPU = torch.device("cpu")
SIZE, CHANNELS, N_SHOT, N_QUERY = 256, 1024, 5, 25
N_MANY, N_FEW, N_ENCODED = 10_000, 200, 16
N_EPISODES = 20
LIMIT, QUARTER = at_most(2), at_most(1)  # GiB, for all images and for a quarter of them
ALL_HELD = 2**40
REPEATS = 2


@dataclass(frozen=True)
class MadeStore:
    """Stands for a store, as far as evaluation looks at it."""

    folder: Path
    records: tuple[Record, ...]
    size: tuple[int, int] = (SIZE, SIZE)

    @property
    def original_sizes(self) -> list[tuple[int, int]]:
        return [self.size] * len(self.records)

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
    """Memory in bytes, None where the system does not tell: on top of what was held before, and of no file."""

    on_top: int | None
    anonymous: int | None
    seconds: float


def measure(*, full: bool = False) -> list[Measurement]:
    """How much memory spilled features need, and how much slower they are; without `full` a quarter of the images."""
    n_images, limit = (N_MANY, LIMIT) if full else (N_MANY // 4, QUARTER)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        peak = process.submit(spilled_peak, n_images).result()
    key, held, on_disk = (
        "memory.spilled",
        n_images * FEATURE_MEMORY // N_MANY,
        n_images * CHANNELS * (SIZE // 16) ** 2 * 4,
    )
    what = (
        f"memory for features of {n_images:,} images, {figure(on_disk / GIB)} GiB of which"
        f" {figure(held / GIB)} may be held"
    )
    if peak.on_top is None:
        spilled = not_measured(key, what, "the system does not tell the memory of a work alone", "GiB", wanted=limit)
    else:
        note = "" if peak.anonymous is None else f"at the end {figure(peak.anonymous / GIB)} GiB are no file's"
        spilled = measured(key, what, [peak.on_top / GIB], "GiB", wanted=limit, note=note)
    with TemporaryDirectory(dir=_cache()) as folder:
        store = made_store(Path(folder), N_FEW)
        return [
            spilled,
            measured("memory.seconds", f"... encoding them, and {N_EPISODES} episodes", [peak.seconds], "s"),
            measure_cost("memory.cost.free", "an encoder that costs nothing", store, panet(8), N_FEW),
            measure_cost("memory.cost.encoder", "ResNet-50", store, resnet(), N_ENCODED),
        ]


def spilled_peak(n_images: int) -> Peak:
    """Encode and segment in this process, which has done nothing else before."""
    with TemporaryDirectory(dir=_cache()) as folder:
        store, method = made_store(Path(folder), n_images), panet(16)
        target = EncodedTarget(store, CPU, memory=n_images * FEATURE_MEMORY // N_MANY)
        begin = perf_counter()
        on_top = bytes_on_top(lambda: [answers(method, target, task) for task in tasks(store)])
        return Peak(on_top, resident_bytes("RssAnon"), perf_counter() - begin)


def measure_cost(key: str, encoder: str, store: MadeStore, network: PANet, n_images: int) -> Measurement:
    """The same work on features in memory and on disk, from images of a part of a store."""
    part = MadeStore(store.folder, store.records[:n_images])
    method = prototypes(network, part)
    found: dict[int, list[list[Segmented]]] = {}

    def work(memory: int) -> None:
        target = EncodedTarget(part, CPU, memory=memory)
        found[memory] = [answers(method, target, task) for task in tasks(part)]

    on_disk, in_memory = interleaved(partial(work, 0), partial(work, ALL_HELD), repeats=REPEATS, warm=False)
    require_same(found[0], found[ALL_HELD])
    what = f"... time on disk of that in memory ({encoder}, {n_images} images and {N_EPISODES} episodes at stride 8)"
    return measured(key, what, ratios(on_disk, in_memory), "x")


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


def _cache() -> Path:
    folder = default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
