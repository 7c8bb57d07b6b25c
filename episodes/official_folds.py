"""The cross-validation that a dataset's authors publish, as splits."""

from collections.abc import Mapping, Sequence

from episodes.errors import SamplingError
from episodes.records import Record, records_hash
from episodes.splits import Split

LEFT_OUT = "left-out"
"""The part of images that the authors put into no fold: neither trained nor tested on."""


def official_folds(records: Sequence[Record], n_folds: int) -> dict[str, Split]:
    """Splits of the official partition into so many folds: in each, `test` is one fold, and `train` the others.

    BUS-BRA (Gomez-Flores et al. 2024) has one of 5 and one of 10 folds, whose files also choose, within what is not
    tested on, what to validate on. That choice is not taken over: it puts images of more than 200 patients on both
    sides.

    Args:
        records: of one dataset, whose `split`, or extra fact such as `10-fold`, is the fold.
        n_folds: how many there are.

    Returns:
        Fold as the authors call it -> split, in the order of their numbers. Nobody vouches for their patients: see
        `find_crossings`.

    Raises:
        SamplingError: if the records are of several datasets, or do not state exactly so many folds.
    """
    stated = _stated_folds(records, n_folds)
    names = sorted(set(stated.values()), key=lambda name: (len(name), name))
    records_of = records_hash(records)
    return {
        name: Split({record.id: _part(stated.get(record.id), name) for record in records}, records_of, None)
        for name in names
    }


def without_fold(split: Split) -> list[str]:
    """Ids of the records that the authors put into no fold."""
    return sorted(record_id for record_id, part in split.parts.items() if part == LEFT_OUT)


def _part(fold: str | None, tested: str) -> str:
    if fold is None:
        return LEFT_OUT
    return "test" if fold == tested else "train"


def _stated_folds(records: Sequence[Record], n_folds: int) -> Mapping[str, str]:
    """Record id -> fold, from the first place that states so many."""
    places = (
        {record.id: record.split for record in records if record.split},
        {record.id: fold for record in records if (fold := record.extra.get(f"{n_folds}-fold"))},
    )
    datasets = sorted({record.dataset for record in records})
    for place in places:
        if len(set(place.values())) == n_folds and len(datasets) == 1:
            return place
    raise SamplingError(
        f"{', '.join(datasets)}: no official partition into {n_folds} folds; BUS-BRA alone has one of 5 and one of 10,"
        " and --folds makes any number of any datasets"
    )
