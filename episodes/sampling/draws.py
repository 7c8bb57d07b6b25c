"""The `support-draws` protocol: which images a clinic annotates, and which are then segmented."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from episodes.errors import SamplingError
from episodes.records import Record, require_unique_ids
from episodes.sampling.streams import GOLDEN, MASK, Stream, mix


@dataclass(frozen=True, slots=True)
class SupportDraw:
    """One selection of support images of a dataset, and everything that is left to segment.

    Support ids are ordered, (depth,), each of another patient. The K-shot support set is its first K, so a shot curve
    compares like with like. Queries are the sorted ids of every record, with or without a lesion, whose patient is
    nowhere in `support`: the same for every K.
    """

    index: int
    support: tuple[str, ...]
    queries: tuple[str, ...]


def support_draws(records: Sequence[Record], *, n_draws: int = 5, depth: int = 10, seed: int = 0) -> list[SupportDraw]:
    """Draw ordered support lists from one dataset, each stratified over benign and malignant.

    Patients are drawn uniformly, then one image of each. For every K, the malignant among the first K images number K
    times the dataset's share of malignant patients, rounded down or up; over the draws the 1-shot images are malignant
    in the same share. Lesions of unknown kind count with the benign, so a dataset that has no other is not stratified.
    Draw d depends on the records, the seed and d alone, and a shallower list is the beginning of a deeper one: `depth`
    is the largest K.

    Raises:
        SamplingError: if the records are of several datasets, or have too few patients with a lesion: `depth` for the
            support and one for the queries.

    >>> from pathlib import Path
    >>> labels = {"a": "benign", "b": "malignant", "c": "benign", "d": "normal"}
    >>> records = [Record("busi", Path(f"{name}.png"), (), label, name) for name, label in labels.items()]
    >>> support_draws(records, n_draws=1, depth=2)
    [SupportDraw(index=0, support=('busi/b', 'busi/c'), queries=('busi/a', 'busi/d'))]
    """
    _check_request(records, n_draws, depth)
    records = sorted(records, key=lambda record: record.id)
    return [_draw(records, depth, seed, index) for index in range(n_draws)]


def _draw(records: Sequence[Record], depth: int, seed: int, index: int) -> SupportDraw:
    """Draw list `index`: one image of each patient with a lesion, shuffled, malignant and other ones interleaved."""
    stream = Stream(seed, index)
    images: dict[str, list[Record]] = {}
    for record in records:
        if record.has_lesion:
            images.setdefault(record.patient_id, []).append(record)
    # A patient may have both kinds; the image drawn decides which one the patient stands for in this draw.
    chosen = [images[patient][stream.below(len(images[patient]))] for patient in sorted(images)]
    malignant = stream.shuffled([record for record in chosen if record.label == "malignant"])
    others = stream.shuffled([record for record in chosen if record.label != "malignant"])
    support = _interleave(malignant, others, depth, offset=(mix((seed + GOLDEN) & MASK) + index * GOLDEN) & MASK)
    patients = {record.patient_id for record in support}
    return SupportDraw(
        index,
        tuple(record.id for record in support),
        tuple(record.id for record in records if record.patient_id not in patients),
    )


def _interleave(malignant: list[Record], others: list[Record], depth: int, offset: int) -> list[Record]:
    """Merge the two lists so that each prefix holds both in the proportion of their lengths.

    Systematic sampling: the first k hold floor(k * share + offset / 2^64) of the malignant. As the offset
    moves from draw to draw by the golden ratio, the most even of steps, a few draws are already balanced.
    """
    total = len(malignant) + len(others)
    malignant_up_to = [((k * len(malignant) << 64) + offset * total) // (total << 64) for k in range(depth + 1)]
    return [
        malignant[before] if after > before else others[k - before]
        for k, (before, after) in enumerate(pairwise(malignant_up_to))
    ]


def _check_request(records: Sequence[Record], n_draws: int, depth: int) -> None:
    require_unique_ids(records)
    for name, value in (("n_draws", n_draws), ("depth", depth)):
        if value < 1:
            raise SamplingError(f"{name} is {value}; it must be at least 1")
    datasets = sorted({record.dataset for record in records})
    if len(datasets) > 1:
        raise SamplingError(f"support is drawn from one dataset at a time, and these are {', '.join(datasets)}")
    n_patients = len({record.patient_id for record in records if record.has_lesion})
    if n_patients < depth + 1:
        raise SamplingError(
            f"{datasets[0] if datasets else 'no records'}: {n_patients} patients with a lesion, "
            f"{depth + 1} needed ({depth} support + 1 query); lower the depth"
        )
