"""Reading an episode from the store, against decoding its PNG files, in one run.

The files are phantoms in BUS-UCLM's layout at that dataset's size, 856x606; the working size is 256x256. An episode has
five support images and one query. Decoding ends with uint8 arrays; reading also makes the episode's tensors of them.

What it costs to check each image when a process reads it first is set against what the image takes in a training.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TypeVar

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
from episodes.storage.store import Collection, Store
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.networks import seeded_network
from tests.episodes.made_pictures import read_label_map

N_IMAGES = 48
BATCH = 8
N_EPISODES = 20
WIDTH, HEIGHT, SIZE = 856, 606, 256

Item = TypeVar("Item")


def measure() -> list[str]:
    """Lines that say how long an episode's pixels take both ways."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "bus_uclm"
        layouts.write_bus_uclm(population.generate(population.PhantomSpec("linear", N_IMAGES)), root)
        for path in root.rglob("*.png"):
            enlarge(path)
        begin = perf_counter()
        collection = Collection([prepare_store(read_dataset("bus_uclm", root), Path(folder), (SIZE, SIZE))])
        preparing = perf_counter() - begin
        specs = list(EpisodeSampler(collection.records, n_shot=5).specs(0, N_EPISODES))
        return [
            f"{N_IMAGES} images of {WIDTH}x{HEIGHT} in BUS-UCLM's layout, decoded once in {preparing:.1f} s",
            *compare(collection, specs),
            checking(collection),
        ]


def checking(collection: Collection) -> str:
    """A line on what checking adds to the first epoch of a training, by what an image takes in one."""
    batches = ImageBatches(collection, collection.records, BATCH, Augmentation("light"))
    network = seeded_network(
        EncoderConfig(name="resnet18"), ModelConfig(network="unet", levels=(0, 1, 2, 3)), seed=0
    ).train()
    read = min(seconds_each(batches.__getitem__, range(N_IMAGES // BATCH)) for _ in range(15)) / BATCH
    learn = min(seconds_each(lambda step: learn_from(network, batches[step]), range(3)) for _ in range(2)) / BATCH
    fresh = [replace(store) for store in collection.stores * 15]
    check = min(seconds_each(Store.check_pixels, [store]) for store in fresh) / N_IMAGES
    return (
        f"checking an image and its label map when first read: {1e6 * check:.0f} us, {100 * check / learn:.2f} % of the"
        f" {1e3 * learn:.0f} ms that it takes in a training of U-Net on ResNet-18 (at most 5 % wanted), and"
        f" {100 * check / read:.1f} % of reading and augmenting it alone"
    )


def learn_from(network: nn.Module, batch: dict[str, Tensor]) -> None:
    network.loss(**batch)["loss"].backward()  # type: ignore[operator]


def compare(collection: Collection, specs: Sequence[EpisodeSpec]) -> list[str]:
    records = {record.id: record for record in collection.records}
    episodes = [[records[i] for i in (*spec.support[0], *spec.query)] for spec in specs]
    for record, (image, label_map) in zip(episodes[0], decode(episodes[0]), strict=True):
        if not np.array_equal(image, collection.image(record.id)):
            raise AssertionError(f"{record.id}: the store holds another image than the file")
        if not np.array_equal(label_map, collection.label_map(record.id)):
            raise AssertionError(f"{record.id}: the store holds another label map than the file")
    decoding = seconds_each(decode, episodes)
    reading = seconds_each(lambda spec: load_episode(collection, spec), list(specs) * 20)
    return [
        f"decoding an episode of {len(episodes[0])} images with their label maps: {1e3 * decoding:.1f} ms",
        f"reading it from the store: {1e3 * reading:.2f} ms, {decoding / reading:.0f}x as fast (at least 20x wanted)",
    ]


def seconds_each(work: Callable[[Item], object], items: Sequence[Item]) -> float:
    begin = perf_counter()
    for item in items:
        work(item)
    return (perf_counter() - begin) / len(items)


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
