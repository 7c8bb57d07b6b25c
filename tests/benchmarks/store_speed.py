"""Reading an episode from the store, against decoding its PNG files, in one run.

The files are phantoms in BUS-UCLM's layout at that dataset's size, 856x606; the working size is 256x256. An episode has
five support images and one query. Decoding ends with uint8 arrays; reading also makes the episode's tensors of them.

What it costs to check each image when a process reads it first is set against what the image takes in a training.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from baselines.batches import ImageBatches
from episodes.augment.transforms import Augmentation
from episodes.datasets import read_dataset
from episodes.images.decoding import read_image
from episodes.phantoms import layouts, population
from episodes.records import Record
from episodes.sampling.episode import load_episode
from episodes.sampling.sampler import EpisodeSampler, EpisodeSpec
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.networks import seeded_network
from tests.benchmarks.measurements import Measurement, at_least, at_most, interleaved, measured, ratios
from tests.episodes.made_pictures import read_label_map

N_IMAGES = 48
BATCH = 8
N_EPISODES = 6
AT_ONCE = 20  # times that all are read, which is too quick for a clock
WIDTH, HEIGHT, SIZE = 856, 606, 256


def measure() -> list[Measurement]:
    """How long an episode's pixels take both ways, and what checking them adds."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "bus_uclm"
        layouts.write_bus_uclm(population.generate(population.PhantomSpec("linear", N_IMAGES)), root)
        for path in root.rglob("*.png"):
            enlarge(path)
        collection = Collection([prepare_store(read_dataset("bus_uclm", root), Path(folder), (SIZE, SIZE))])
        specs = list(EpisodeSampler(collection.records, n_shot=5).specs(0, N_EPISODES))
        return [*compare(collection, specs), *checking(collection)]


def checking(collection: Collection) -> list[Measurement]:
    """What checking adds to the first epoch of a training, by what an image takes in one."""
    batches = ImageBatches(collection, collection.records, BATCH, Augmentation("light"))
    network = seeded_network(
        EncoderConfig(name="resnet18"), ModelConfig(network="unet", levels=(0, 1, 2, 3)), seed=0
    ).train()
    repeats = 3
    # A store is checked once: each round has stores of its own.
    fresh = iter([[replace(store) for store in collection.stores * 10] for _ in range(repeats + 1)])
    check, read, learn = interleaved(
        lambda: [store.check_pixels() for store in next(fresh)],
        lambda: [batches[step] for step in range(N_IMAGES // BATCH)],
        lambda: learn_from(network, batches[0]),
        repeats=repeats,
    )
    each = [seconds / (10 * len(collection.stores) * N_IMAGES) for seconds in check]
    return [
        measured(
            "store.check",
            "checking an image when it is read first, of what it takes in a training of U-Net on ResNet-18",
            [100 * part / (whole / BATCH) for part, whole in zip(each, learn, strict=True)],
            "%",
            wanted=at_most(5),
        ),
        measured(
            "store.check.reading",
            "... of reading and augmenting it alone",
            [100 * part / (whole / N_IMAGES) for part, whole in zip(each, read, strict=True)],
            "%",
        ),
        measured("store.check.each", "... checking it", [1e3 * seconds for seconds in each], "ms"),
    ]


def learn_from(network: nn.Module, batch: dict[str, Tensor]) -> None:
    network.loss(**batch)["loss"].backward()  # type: ignore[operator]


def compare(collection: Collection, specs: Sequence[EpisodeSpec]) -> list[Measurement]:
    records = {record.id: record for record in collection.records}
    episodes = [[records[i] for i in (*spec.support[0], *spec.query)] for spec in specs]
    for record, (image, label_map) in zip(episodes[0], decode(episodes[0]), strict=True):
        if not np.array_equal(image, collection.image(record.id)):
            raise AssertionError(f"{record.id}: the store holds another image than the file")
        if not np.array_equal(label_map, collection.label_map(record.id)):
            raise AssertionError(f"{record.id}: the store holds another label map than the file")
    slow, fast = interleaved(
        lambda: [decode(episode) for episode in episodes],
        lambda: [load_episode(collection, spec) for spec in list(specs) * AT_ONCE],
        repeats=3,
    )
    times = [AT_ONCE * ratio for ratio in ratios(slow, fast)]
    what = f"an episode of {len(episodes[0])} images from the store, times as fast as decoding its files"
    return [
        measured("store.episode", what, times, "x", wanted=at_least(20)),
        measured("store.reading", "... reading it", [1e3 * s / (AT_ONCE * len(specs)) for s in fast], "ms"),
    ]


def enlarge(path: Path) -> None:
    """Stretch a phantom from its 256x256 to the dataset's size; a smaller image stays as much smaller."""
    with Image.open(path) as image:
        size = (image.width * WIDTH // 256, image.height * HEIGHT // 256)
        smooth = path.parent.name == "images"
        larger = image.resize(size, Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST)
    larger.save(path)


def decode(records: Sequence[Record]) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    pixels = []
    for record in records:
        image = read_image(record.image)
        label_map = read_label_map(record, image.shape)
        resized = Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        nearest = Image.fromarray(label_map).resize((SIZE, SIZE), Image.Resampling.NEAREST)
        pixels.append((np.asarray(resized), np.asarray(nearest)))
    return pixels
