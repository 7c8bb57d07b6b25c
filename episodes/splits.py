"""Splits by patient, stratified by label."""

import json
from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import fsum
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ValidationError

from episodes.errors import ManifestError, SamplingError
from episodes.files import read_text, require_same_records, write_lines
from episodes.records import Record, records_hash, require_unique_ids
from episodes.streams import Stream

VERSION = 1
FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.7, "val": 0.15, "test": 0.15})


@dataclass(frozen=True, slots=True)
class Split:
    """Which part each record belongs to.

    Attributes:
        parts: record id -> part, such as `train`.
        records: hash of the records that were split.
        seed: what the split was drawn with.
    """

    parts: Mapping[str, str]
    records: str
    seed: int

    def select(self, records: Sequence[Record], part: str) -> list[Record]:
        """The records of one part, in the order given."""
        return [record for record in records if self.parts[record.id] == part]


def split_records(records: Sequence[Record], fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> Split:
    """Split into parts of about the given fractions of images, of each label of each dataset.

    A patient's images stay together. A label is in every part if there are as many patients as parts who have
    images of that label alone. The split depends on the seed and the set of records.

    Args:
        records: of one or several datasets.
        fractions: part -> share of the images, positive and adding up to 1.
        seed: names the split.

    Raises:
        SamplingError: if the fractions are not such, or there are too few patients to fill every part.

    >>> records = [Record("d", Path(f"{n}.png"), (), "benign", patient=str(n)) for n in range(20)]
    >>> sorted(Counter(split_records(records).parts.values()).items())
    [('test', 3), ('train', 14), ('val', 3)]
    """
    if not fractions or min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise SamplingError(f"fractions are {dict(fractions)}; they must be positive and add up to 1")
    require_unique_ids(records)
    return Split(_assign(records, fractions, seed), records_hash(records), seed)


def k_folds(records: Sequence[Record], n_folds: int, seed: int = 0) -> list[Split]:
    """Cross-validation: in split i the part `test` is the i-th of n equal parts, and the rest is `train`.

    Raises:
        SamplingError: if there are fewer than two folds, or too few patients to fill them.
    """
    if n_folds < 2:
        raise SamplingError(f"n_folds is {n_folds}; it must be at least 2")
    folds = split_records(records, {str(fold): 1 / n_folds for fold in range(n_folds)}, seed)
    return [
        Split(
            {record: "test" if part == str(fold) else "train" for record, part in folds.parts.items()},
            folds.records,
            seed,
        )
        for fold in range(n_folds)
    ]


def _assign(records: Sequence[Record], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Give each patient to a part, after iterative stratification (Sechidis et al., ECML PKDD 2011).

    The rarest label comes first, as it is the hardest to spread, and within it the patients with most images,
    so that those with few even out what is left. A part is drawn with odds of what each part lacks: were the
    neediest always served, the patients with many images would be in the largest part under every seed.
    """
    patients: dict[str, Counter[str]] = {}
    for record in sorted(records, key=lambda record: record.id):
        patients.setdefault(record.patient_id, Counter())[f"{record.dataset}/{record.label}"] += 1
    n_patients = Counter(stratum for images in patients.values() for stratum in images)
    n_images = sum(patients.values(), Counter[str]())
    lacking = {part: {name: share * n_images[name] for name in n_images} for part, share in fractions.items()}
    held: dict[str, set[str]] = {part: set() for part in fractions}
    stream = Stream(seed, 0)
    part_of: dict[str, str] = {}
    for stratum in sorted(n_patients, key=lambda name: (n_patients[name], name)):
        waiting = [name for name in sorted(patients) if stratum in patients[name] and name not in part_of]
        waiting = sorted(stream.shuffled(waiting), key=lambda name: -patients[name].total())
        for n_left, patient in zip(range(len(waiting), 0, -1), waiting, strict=True):
            without = [part for part in fractions if stratum not in held[part]]
            parts = without if len(without) >= n_left else list(fractions)
            part = part_of[patient] = _choose(
                {part: lacking[part] for part in parts}, patients[patient], stratum, stream
            )
            held[part] |= patients[patient].keys()
            for name, count in patients[patient].items():
                lacking[part][name] -= count
    for part in fractions:
        if not held[part]:
            raise SamplingError(f"part {part!r} got no patient: {len(patients)} patients, {len(fractions)} parts")
    return {record.id: part_of[record.patient_id] for record in records}


def _choose(lacking: Mapping[str, Mapping[str, float]], images: Mapping[str, int], stratum: str, stream: Stream) -> str:
    """Draw a part with odds of what it lacks of a stratum, among those that lack half of each of the images.

    Where no part does, the one that lacks most altogether has to take them.
    """
    odds = {
        part: lack[stratum]
        for part, lack in lacking.items()
        if all(lack[name] >= count / 2 for name, count in images.items())
    }
    if not odds:
        # Exact sums: the built-in one rounds differently from one version of Python to another.
        return max(lacking, key=lambda part: fsum(lacking[part].values()))
    reach = list(accumulate(odds.values()))
    return list(odds)[bisect(reach, stream.below(2**32) / 2**32 * reach[-1])]


class _SplitFile(BaseModel):
    """The JSON form of a split."""

    format: str
    version: int
    records: str
    seed: int
    parts: dict[str, list[str]]


def write_split(path: Path, split: Split, *, overwrite: bool = False) -> None:
    """Write a split as JSON, completely or not at all; the records of each part are listed by id.

    Raises:
        ManifestError: if the file exists and `overwrite` is not set, or it cannot be written.
    """
    ids: dict[str, list[str]] = {}
    for record_id, part in sorted(split.parts.items()):
        ids.setdefault(part, []).append(record_id)
    content = {"format": "fewshot-split", "version": VERSION, "records": split.records, "seed": split.seed}
    write_lines(path, [json.dumps(content | {"parts": ids}, indent=1)], overwrite=overwrite)


def read_split(path: Path, records: Sequence[Record]) -> Split:
    """Read a split of the records at hand, in whatever order these are.

    Raises:
        ManifestError: if the file is missing, not a split of a known version, or belongs to other records.
    """
    try:
        file = _SplitFile.model_validate_json(read_text(path, "split"))
    except ValidationError as error:
        raise ManifestError(f"{path}: not a split, or a damaged one; write it again") from error
    if (file.format, file.version) != ("fewshot-split", VERSION):
        raise ManifestError(
            f"{path}: is {file.format} version {file.version}; expected was fewshot-split version {VERSION}"
        )
    parts = {record_id: part for part, ids in file.parts.items() for record_id in ids}
    require_same_records(path, file.records, parts, records)
    if sorted(record_id for ids in file.parts.values() for record_id in ids) != sorted(r.id for r in records):
        raise ManifestError(f"{path}: does not name each record exactly once; write it again")
    return Split(parts, file.records, file.seed)
