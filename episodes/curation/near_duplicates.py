"""Near-duplicate images: groups of them, which make one patient, and the policies that say which are kept."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from math import prod

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from episodes.curation.policy import Curated, Dropped, Duplicates
from episodes.records import Record

logger = logging.getLogger(__name__)

THUMBNAIL = 48  # pixels a side
NEAR_DUPLICATE = 0.99
# Bits of 64. In BUSI and BUS-UCLM no pair that correlates above 0.99 differs in more than 6, above 0.97 in more than 8.
_HASH_DISTANCE = 12
# What many images share, such as a scanner's user interface or a page, says nothing of what they show. So large a share
# of a dataset, and so many images, hold the same grey value there, within a tolerance.
_SHARED, _SHARING, _TOLERANCE = 0.5, 3, 1
# Least correlation of the rest, and the least part of the thumbnail that it has to be to count. In BUSI and BUS-UCLM no
# pair that correlates above 0.99 is below 0.989; strangers within one frame reach 0.96.
_CONTENT, _LEAST_CONTENT = 0.97, 0.02
# Few images may share a frame, so pairs are compared window by window as well, wherever one of the two is not flat. Of
# BUSI's pairs at most 5 % of the windows differ, where a marker was set; of strangers in a frame 15 % and more.
_WINDOW = 8  # pixels a side
_FLAT, _DIFFERING, _MOST_DIFFERING = 1.0, 0.4, 0.07  # standard deviation in grey values, correlation, share of windows
_BLOCK = 512  # rows compared with all others at a time: 50,000 hashes make 200 MB then, and 10^9 pairs a few seconds


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a grey image, (H, W), to (48, 48) by area averaging, whatever its aspect ratio."""
    return np.asarray(Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def duplicate_groups(images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> list[list[int]]:
    """Group images that show the same: near-duplicates.

    Two images are near-duplicates if Pearson's correlation of their 48x48 thumbnails exceeds `NEAR_DUPLICATE`; groups
    are the connected components of that relation. Only pairs whose perceptual hashes (64 bits, of the lowest
    frequencies of a cosine transform) are close are correlated: comparing hashes is a thousand times cheaper. An image
    of one grey value resembles none. Images of a sequence from one patient may well be near-duplicates, so inside a
    patient a group is no fault. What surrounds the content does not count: pixels that half of the images share
    are left out, and the two have to agree in all but a few windows of the thumbnail. Images are grey values, (images,
    H, W); groups are of two or more indices, sorted.

    >>> images = np.random.default_rng(0).integers(0, 255, (3, 48, 48), dtype=np.uint8)
    >>> images[2] = images[0] // 2
    >>> duplicate_groups(images)
    [[0, 2]]
    """
    thumbnails = _thumbnails(images)
    alike = _confirm(_close_hashes(thumbnails), thumbnails)
    varying = cache(lambda: _varying(thumbnails))  # most datasets have no such pair, and need not be looked through
    return _linked((_of_content(pairs, thumbnails, varying()) for pairs in alike if len(pairs)), len(images))


def look_alike_groups(images: NDArray[np.uint8], threshold: float) -> list[list[int]]:
    """Group images that resemble each other, by the correlation of their thumbnails alone.

    Any threshold from 0 on will do: every pair is correlated, since look-alikes below that of near-duplicates may have
    hashes that are as far apart as those of strangers.
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
    vectors = thumbnails.reshape(len(thumbnails), prod(thumbnails.shape[1:])).astype(np.float32)
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


def _confirm(candidates: Iterable[NDArray[np.intp]], thumbnails: NDArray[np.uint8]) -> Iterator[NDArray[np.intp]]:
    """Yield the pairs, of those that come in, whose thumbnails correlate as near-duplicates do."""
    for pairs in candidates:
        (firsts, rows), (seconds, columns) = (np.unique(indices, return_inverse=True) for indices in pairs.T)
        # Frames of a clip make many pairs of few images: one product of matrices holds them all.
        correlations = _standardised(thumbnails[firsts]) @ _standardised(thumbnails[seconds]).T
        yield pairs[correlations[rows, columns] > NEAR_DUPLICATE]


def _varying(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find where the images show what few others do, (images, 48, 48): regions of at least 3 x 3 pixels."""
    count, pixels = len(thumbnails), THUMBNAIL**2
    values, place = thumbnails.reshape(count, pixels), np.arange(pixels)
    # Of each pixel how many images have at most this value; both ends are met in the padding.
    histogram = np.zeros((pixels, 256), np.int64)
    for image in values:
        histogram[place, image] += 1
    at_most = np.pad(histogram.cumsum(axis=1), ((0, 0), (_TOLERANCE + 1, _TOLERANCE)), mode="edge")
    at_most[:, : _TOLERANCE + 1] = 0
    close = at_most[:, 2 * _TOLERANCE + 1 :] - at_most[:, : -(2 * _TOLERANCE + 1)]
    shared = close[place, values] >= max(_SHARING, _SHARED * count)
    varying: NDArray[np.bool_] = ndimage.binary_opening(~shared.reshape(thumbnails.shape), np.ones((1, 3, 3), bool))
    return varying


def _of_content(pairs: NDArray[np.intp], thumbnails: NDArray[np.uint8], varying: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Keep the pairs that are alike by what they show, not by what surrounds it."""
    (firsts, rows), (seconds, columns) = (np.unique(indices, return_inverse=True) for indices in pairs.T)
    masks = [varying[indices].reshape(len(indices), -1).astype(np.float32) for indices in (firsts, seconds)]
    content, correlations = (
        table[rows, columns] for table in _masked_correlations(*(thumbnails[one] for one in (firsts, seconds)), *masks)
    )
    same = (content < _LEAST_CONTENT) | (correlations > _CONTENT)
    differing, compared = np.zeros((2, len(pairs)), np.int64)
    starts = [
        (top, left)
        for offset in (0, _WINDOW // 2)
        for top in range(offset, THUMBNAIL - _WINDOW + 1, _WINDOW)
        for left in range(offset, THUMBNAIL - _WINDOW + 1, _WINDOW)
    ]
    for top, left in starts:
        window = thumbnails[:, top : top + _WINDOW, left : left + _WINDOW]
        first, second = window[firsts], window[seconds]
        varied = np.maximum(first.std(axis=(1, 2))[rows], second.std(axis=(1, 2))[columns]) > _FLAT
        table = _standardised(first) @ _standardised(second).T
        compared += varied
        differing += varied & (table[rows, columns] < _DIFFERING)
    return pairs[same & (differing <= _MOST_DIFFERING * compared)]


def _masked_correlations(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    first_masks: NDArray[np.float32],
    second_masks: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Correlate every first with every second image over the pixels of both masks; the share of these comes first."""
    x, y = (values.reshape(len(values), -1) / np.float32(255) for values in (first, second))
    x, y = x * first_masks, y * second_masks
    count = np.maximum(first_masks @ second_masks.T, 1)
    sum_x, sum_y = x @ second_masks.T, first_masks @ y.T
    spread_x = (x * x) @ second_masks.T - sum_x**2 / count
    spread_y = first_masks @ (y * y).T - sum_y**2 / count
    together = x @ y.T - sum_x * sum_y / count
    spread = np.sqrt(np.maximum(spread_x, 1e-6) * np.maximum(spread_y, 1e-6))
    return count / np.float32(THUMBNAIL**2), together / spread


def group_patients(records: Sequence[Record], groups: Sequence[Sequence[int]]) -> list[Record]:
    """Make one patient of all patients that share a group of near-duplicates, indices as from `duplicate_groups`.

    So no group straddles a split, and a patient under two names is one again. Patients are merged within a
    dataset only: an image may also resemble one of another dataset, whose patients have a name of their own.

    Returns:
        The records in the same order; merged patients bear the smallest of their names, if one is known.

    >>> from pathlib import Path
    >>> a, b = (Record("d", Path(f"{name}.png"), (), "benign", patient=name) for name in "ab")
    >>> [record.patient for record in group_patients([a, b], [[0, 1]])]
    ['a', 'a']
    """
    named = {(record.dataset, record.patient): not record.names_patient for record in records}
    patients = sorted(named, key=lambda patient: (named[patient], patient))
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
    >>> a, b = (Record("d", Path(f"{name}.png"), (), "benign", patient="") for name in "ab")
    >>> settle_duplicates([a, b], [[0, 1]], "keep-first").dropped
    (Dropped(id='d/b', reason='near-duplicate of an image that is kept', detail='shows the same as d/a'),)
    """
    grouped = group_patients(records, groups)
    by_id = [sorted((records[index] for index in group), key=lambda record: record.id) for group in groups]
    dropped: list[Dropped] = []
    for group in by_id:
        lost_of_group = settle_group(group, how)
        dropped += lost_of_group
        if contradictory(group) and not lost_of_group:
            stated = ", ".join(f"{record.id} {record.label}" for record in group)
            logger.warning("kept, though they look alike: %s; their patients are named apart", stated)
    lost = {one.id for one in dropped}
    return Curated(tuple(record for record in grouped if record.id not in lost), tuple(dropped))


def contradictory(group: Sequence[Record]) -> bool:
    """Tell whether the labels of images that show the same contradict each other."""
    labels = {record.label for record in group}
    return len(labels - {"unknown"}) > 1 or labels == {"normal", "unknown"}  # a lesion of unknown kind is no normal


def settle_group(group: Sequence[Record], how: Duplicates) -> list[Dropped]:
    """List what is dropped of one group, sorted by id.

    Correlation alone is no proof against what a dataset says: images of patients that it names and tells apart are
    settled patient by patient.
    """
    named = {record.patient for record in group if record.names_patient}
    if len(named) > 1:
        of_patient = [[record for record in group if record.patient == patient] for patient in sorted(named)]
        return [one for own in of_patient if len(own) > 1 for one in settle_group(own, how)]
    if contradictory(group):
        stated = ", ".join(f"{record.id} {record.label}" for record in group)
        return [Dropped(record.id, CONTRADICTING, stated) for record in group]
    ids = [record.id for record in group]
    if how == "drop-all":
        others = {one: ", ".join(other for other in ids if other != one) for one in ids}
        return [Dropped(one, DUPLICATED, f"shows the same as {others[one]}") for one in ids]
    if how == "keep-first":
        return [Dropped(one, REPEATED, f"shows the same as {ids[0]}") for one in ids[1:]]
    return []
