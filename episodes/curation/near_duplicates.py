"""Near-duplicate images: groups of them, which make one patient, and the policies that say which are kept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from episodes.curation.policy import Curated, Dropped, Duplicates
from episodes.records import Record

THUMBNAIL = 48  # pixels a side
NEAR_DUPLICATE = 0.99
# Bits of 64. In BUSI and BUS-UCLM no pair that correlates above 0.99 differs in more than 6, above 0.97 in more than 8.
_HASH_DISTANCE = 12
_BLOCK = 512  # rows compared with all others at a time: 50,000 hashes make 200 MB then, and 10^9 pairs a few seconds


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a grey image, (H, W), to (48, 48) by area averaging, whatever its aspect ratio."""
    return np.asarray(Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def duplicate_groups(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], threshold: float = NEAR_DUPLICATE
) -> list[list[int]]:
    """Group images that show the same: near-duplicates.

    Two images are near-duplicates if Pearson's correlation of their 48x48 thumbnails exceeds the threshold; groups
    are the connected components of that relation. Only pairs whose perceptual hashes (64 bits, of the lowest
    frequencies of a cosine transform) are close are correlated: comparing hashes is a thousand times cheaper. An image
    of one grey value resembles none. Images of a sequence from one patient may well be near-duplicates, so inside a
    patient a group is no fault.

    Args:
        images: grey values, (images, H, W).
        threshold: least correlation, exclusive.

    Returns:
        Groups of two or more indices, sorted.

    Raises:
        ValueError: if the threshold is below 0.99, where hashes need not be close: see `look_alike_groups`.

    >>> images = np.random.default_rng(0).integers(0, 255, (3, 48, 48), dtype=np.uint8)
    >>> images[2] = images[0] // 2
    >>> duplicate_groups(images)
    [[0, 2]]
    """
    if threshold < NEAR_DUPLICATE:
        raise ValueError(f"threshold {threshold} is below {NEAR_DUPLICATE}, down to which close hashes find all pairs")
    thumbnails = _thumbnails(images)
    return _linked(_confirm(_close_hashes(thumbnails), thumbnails, threshold), len(images))


def look_alike_groups(images: NDArray[np.uint8], threshold: float) -> list[list[int]]:
    """Group images that resemble each other, by the correlation of their thumbnails alone.

    As `duplicate_groups` for any threshold: every pair is correlated, since look-alikes below 0.99 may have hashes
    that are as far apart as those of strangers.

    Args:
        images: grey values, (images, H, W).
        threshold: least correlation, exclusive; 0 or more.

    Returns:
        Groups of two or more indices, sorted.
    """
    vectors = _standardised(_thumbnails(images))
    starts = range(0, len(vectors), _BLOCK)
    pairs = (np.argwhere(vectors[start : start + _BLOCK] @ vectors[start:].T > threshold) + start for start in starts)
    return _linked(pairs, len(images))


def _thumbnails(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    small = [thumbnail(image) for image in images]
    return np.stack(small) if small else np.zeros((0, THUMBNAIL, THUMBNAIL), np.uint8)


def _standardised(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Make vectors whose products are Pearson correlations, (images, pixels); of one grey value: zeros."""
    vectors = thumbnails.reshape(len(thumbnails), THUMBNAIL**2).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1)
    return vectors


def _close_hashes(thumbnails: NDArray[np.uint8]) -> Iterator[NDArray[np.intp]]:
    """Yield pairs (pairs, 2) of indices whose perceptual hashes are close; images of one grey value are in none."""
    varied = np.flatnonzero(np.ptp(thumbnails, axis=(1, 2)))
    bits = [imagehash.phash(Image.fromarray(thumbnails[index])).hash.ravel() for index in varied]
    hashes = np.packbits(np.array(bits, dtype=bool).reshape(-1, 64), axis=1).view(np.uint64).ravel()
    for start in range(0, len(hashes), _BLOCK):
        distances = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[start:])
        first, second = np.nonzero(distances <= _HASH_DISTANCE)
        later = second > first  # each pair once, none with itself
        yield np.stack([varied[first[later] + start], varied[second[later] + start]], axis=1)


def _confirm(
    candidates: Iterable[NDArray[np.intp]], thumbnails: NDArray[np.uint8], threshold: float
) -> Iterator[NDArray[np.intp]]:
    """Yield the pairs, of those that come in, whose thumbnails correlate above the threshold."""
    for pairs in candidates:
        (firsts, rows), (seconds, columns) = (np.unique(indices, return_inverse=True) for indices in pairs.T)
        # Frames of a clip make many pairs of few images: one product of matrices holds them all.
        correlations = _standardised(thumbnails[firsts]) @ _standardised(thumbnails[seconds]).T
        yield pairs[correlations[rows, columns] > threshold]


def group_patients(records: Sequence[Record], groups: Sequence[Sequence[int]]) -> list[Record]:
    """Make one patient of all patients that share a group of near-duplicates, indices as from `duplicate_groups`.

    So no group straddles a split, and a patient under two names is one again. Patients are merged within a
    dataset only: an image may also resemble one of another dataset, whose patients have a name of their own.

    Returns:
        The records in the same order; merged patients bear the smallest of their names.

    >>> from pathlib import Path
    >>> a, b = (Record("d", Path(f"{name}.png"), (), "benign", patient=name) for name in "ab")
    >>> [record.patient for record in group_patients([a, b], [[0, 1]])]
    ['a', 'a']
    """
    patients = sorted({(record.dataset, record.patient) for record in records})
    numbers = {patient: number for number, patient in enumerate(patients)}
    links = []
    for group in groups:
        first: dict[str, int] = {}  # of each dataset
        for record in (records[index] for index in group):
            number = numbers[record.dataset, record.patient]
            links.append((first.setdefault(record.dataset, number), number))
    names = {patient: patient[1] for patient in patients}
    for smallest, *others in _components(np.array(links, np.intp).reshape(-1, 2), len(patients)):
        names |= {patients[number]: patients[smallest][1] for number in others}
    return [replace(record, patient=names[record.dataset, record.patient]) for record in records]


def _linked(blocks: Iterable[NDArray[np.intp]], count: int) -> list[list[int]]:
    """List the connected components of pairs that come in blocks, without holding more pairs than needed."""
    links = np.zeros((0, 2), np.intp)
    for block in blocks:
        links = np.concatenate([links, block])
        if len(links) > 2 * count:  # as many frames of one clip are: components say as much as all their pairs
            components = _components(links, count)
            links = np.array([(first, other) for first, *others in components for other in others], np.intp)
    return _components(links, count)


def _components(links: NDArray[np.intp], count: int) -> list[list[int]]:
    """List the connected components of two or more nodes, sorted; links are (links, 2)."""
    graph = coo_array((np.ones(len(links), dtype=np.int8), tuple(links.T)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    components: dict[int, list[int]] = {}
    for node, label in enumerate(labels.tolist()):
        components.setdefault(label, []).append(node)
    return [component for component in components.values() if len(component) > 1]


CONTRADICTING = "near-duplicates with contradicting labels"
REPEATED = "near-duplicate of an image that is kept"
DUPLICATED = "near-duplicates"


def settle_duplicates(records: Sequence[Record], groups: Sequence[Sequence[int]], how: Duplicates) -> Curated:
    """Make one patient of those of a dataset that share a group of near-duplicates, and drop what the policy drops.

    >>> from pathlib import Path
    >>> a, b = (Record("d", Path(f"{name}.png"), (), "benign", patient=name) for name in "ab")
    >>> settle_duplicates([a, b], [[0, 1]], "keep-first").dropped
    (Dropped(id='d/b', reason='near-duplicate of an image that is kept', detail='shows the same as d/a'),)
    """
    grouped = group_patients(records, groups)
    by_id = [sorted((records[index] for index in group), key=lambda record: record.id) for group in groups]
    dropped = tuple(one for group in by_id for one in _settle(group, how))
    lost = {one.id for one in dropped}
    return Curated(tuple(record for record in grouped if record.id not in lost), dropped)


def _settle(group: Sequence[Record], how: Duplicates) -> list[Dropped]:
    """List what is dropped of one group, sorted by id."""
    labels = {record.label for record in group}
    if len(labels - {"unknown"}) > 1 or labels == {"normal", "unknown"}:  # a lesion of unknown kind is no normal
        stated = ", ".join(f"{record.id} {record.label}" for record in group)
        return [Dropped(record.id, CONTRADICTING, stated) for record in group]
    ids = [record.id for record in group]
    if how == "drop-all":
        others = {one: ", ".join(other for other in ids if other != one) for one in ids}
        return [Dropped(one, DUPLICATED, f"shows the same as {others[one]}") for one in ids]
    if how == "keep-first":
        return [Dropped(one, REPEATED, f"shows the same as {ids[0]}") for one in ids[1:]]
    return []
