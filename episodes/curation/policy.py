"""The policy by which a dataset is curated: what is corrected, kept and left out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from episodes.errors import DatasetError
from episodes.io.files import read_text
from episodes.records import Label, Record

Duplicates = Literal["group", "keep-first", "drop-all"]
Doppler = Literal["keep", "drop"]

EXCLUDED = "excluded by corrections"
NOT_LISTED = "not on the curated list"
DOPPLER = "Doppler overlay"

_COLUMN = "Doppler"
_YES = {"yes", "y", "true", "1"}
_NO = {"no", "n", "false", "0", ""}


@dataclass(frozen=True, slots=True)
class Dropped:
    """An image that is not used."""

    id: str  # the record's
    reason: str  # what it has in common with others that are dropped for it, such as `near-duplicate of an image kept`
    detail: str = ""  # what is to be said of this one beyond that, such as the other's id; may be empty


def count_by_reason(dropped: Sequence[Dropped]) -> dict[str, int]:
    """Count the images that each reason cost, in the order of the reasons' first.

    >>> count_by_reason([Dropped("a", "Doppler"), Dropped("b", "Doppler")])
    {'Doppler': 2}
    """
    return dict(Counter(one.reason for one in dropped))


@dataclass(frozen=True, slots=True)
class Curated:
    """The images that are left of a dataset."""

    records: tuple[Record, ...]  # those kept, in the order given
    dropped: tuple[Dropped, ...] = ()  # the others, in the order in which they were dropped


@dataclass(frozen=True, slots=True)
class CuratedList:
    """The only images of a dataset that are to be used."""

    file: str  # where the list stands, for messages
    names: tuple[str, ...]  # image ids, or file names with or without suffix

    @classmethod
    def read(cls, path: Path) -> "CuratedList":
        """Read a text file of one name a line; empty lines and those that begin with `#` say nothing.

        Raises:
            ManifestError: if there is no such file, or it is no text.
            DatasetError: if it names no image.
        """
        lines = (line.strip() for line in read_text(path, "curated list").removeprefix("\ufeff").splitlines())
        names = tuple(line for line in lines if line and not line.startswith("#"))
        if not names:
            raise DatasetError(f"{path}: names no image; write one id or file name a line, or leave the list out")
        return cls(str(path), names)


@dataclass(frozen=True, slots=True)
class Relabel:
    """Another label for an image, and why."""

    label: Label
    reason: str


@dataclass(frozen=True, slots=True)
class Rename:
    """Another name for a patient, which may be that of another one, and why."""

    to: str
    reason: str


@dataclass(frozen=True, slots=True)
class Corrections:
    """Known mistakes in a dataset."""

    file: str  # where the corrections stand, for messages
    exclude: Mapping[str, str] = field(default_factory=dict)  # images that are not used, each with the reason
    relabel: Mapping[str, Relabel] = field(default_factory=dict)  # images with another label
    # Patients with another name, by the name that the dataset gives them.
    rename_patients: Mapping[str, Rename] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """The choice of what of a dataset is used, made in the order corrections, curated, doppler, duplicates.

    >>> Policy().duplicates
    'group'
    """

    duplicates: Duplicates = "group"  # what is done with near-duplicates, as in `episodes.curation.near_duplicates`
    doppler: Doppler = "keep"  # whether images with a Doppler overlay are kept
    curated: CuratedList | None = None  # the images to choose from; None for all
    corrections: Corrections | None = None  # mistakes of the dataset that are mended; None for none

    @property
    def content(self) -> dict[str, Any]:
        """Return the policy as JSON has it, wherever its files lie."""
        corrections = None if self.corrections is None else asdict(self.corrections)
        if corrections is not None:
            del corrections["file"]
        return {
            "duplicates": self.duplicates,
            "doppler": self.doppler,
            "curated": None if self.curated is None else sorted(self.curated.names),
            "corrections": corrections,
        }


def curate(records: Sequence[Record], policy: Policy) -> Curated:
    """Correct records, and drop those that the corrections, the curated list or the Doppler policy drop.

    Near-duplicates, which only pixels show, are for `settle_duplicates`. An image that corrections exclude is never
    decoded, so a damaged file can be one. There must be at least one record.

    Raises:
        DatasetError: if the policy names an image or patient that the dataset does not have, asks for facts that it
            does not state, or leaves no image.
    """
    left, dropped = list(records), list[Dropped]()
    if policy.corrections is not None:
        left, dropped = _correct(records, policy.corrections)
    if policy.curated is not None:
        listed = _find_images(records, policy.curated.names, policy.curated.file)
        dropped += [Dropped(record.id, NOT_LISTED) for record in left if record.id not in listed]
        left = [record for record in left if record.id in listed]
    if policy.doppler == "drop" and left:
        shown = _doppler_ids(left)
        dropped += [Dropped(record.id, DOPPLER) for record in left if record.id in shown]
        left = [record for record in left if record.id not in shown]
    curated = Curated(tuple(left), tuple(dropped))
    require_some(curated, records[0].dataset)
    return curated


def require_some(left: Curated, dataset: str) -> None:
    """Raise a `DatasetError` where a policy leaves nothing; it says what the last record was dropped for."""
    if not left.records:
        last = left.dropped[-1]
        why = f"{last.reason}: {last.detail}" if last.detail else last.reason
        raise DatasetError(f"{dataset}: its curation leaves no image ({why}); change the policy, or what it goes by")


def _correct(records: Sequence[Record], corrections: Corrections) -> tuple[list[Record], list[Dropped]]:
    """Mend what is wrong, and drop what is excluded.

    The masks of an image with another label take their class from it, also where they said it by colour.
    """
    file = corrections.file
    excluded = _find_images(records, corrections.exclude, file)
    relabelled = _find_images(records, corrections.relabel, file)
    patients = {record.patient for record in records}
    what = f"patients that {records[0].dataset} does not have"
    _require_known(corrections.rename_patients, patients, what, file)
    kept = []
    for record in records:
        if record.id in relabelled:
            label = corrections.relabel[relabelled[record.id]].label
            inverted = record.mask_format == "inverted"
            record = replace(record, label=label, mask_format="inverted" if inverted else "binary")
        if record.patient in corrections.rename_patients:
            record = replace(record, patient=corrections.rename_patients[record.patient].to)
        if record.id not in excluded:
            kept.append(record)
    return kept, [Dropped(record_id, EXCLUDED, corrections.exclude[name]) for record_id, name in excluded.items()]


def _find_images(records: Sequence[Record], names: Iterable[str], file: str) -> dict[str, str]:
    """Find the images that a file names, or raise where there is no such image; the name by the record's id.

    A name is an id (`busi/benign (1)`), the id's last part, or a file name with or without suffix. A file of several
    frames is named as a whole by its file's name.

    >>> record = Record("busi", Path("benign/benign (1).png"), (), "benign", "benign (1)")
    >>> _find_images([record], ["benign (1)", "benign (1).png"], "list.txt")
    {'busi/benign (1)': 'benign (1).png'}
    """
    ids: dict[str, list[str]] = {}
    for record in records:
        for spelling in {record.id, record.id.partition("/")[2], record.image.name, record.image.stem}:
            ids.setdefault(spelling, []).append(record.id)
    names = list(names)
    _require_known(names, ids, f"images that {records[0].dataset} does not have", file)
    return {record_id: name for name in names for record_id in ids[name]}


def _require_known(names: Iterable[str], known: Iterable[str], what: str, file: str) -> None:
    known = set(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise DatasetError(f"{file}: names {what}: {', '.join(unknown[:3])}{more}; correct the names, or take them out")


def _doppler_ids(records: Sequence[Record]) -> set[str]:
    """Return the ids of the images that the dataset says to be Doppler images; raise where it says nothing of any."""
    if not any(_COLUMN in record.extra for record in records):
        raise DatasetError(
            f"{records[0].dataset}: does not state which images have a Doppler overlay, so that none can be dropped for"
            f" it; leave `doppler: drop` out, or give its table a column {_COLUMN!r}"
        )
    stated = {record.id: record.extra.get(_COLUMN, "").strip() for record in records}
    for record_id, text in stated.items():
        if text.lower() not in _YES | _NO:
            raise DatasetError(f"{record_id}: {_COLUMN} is {text!r}; write Yes or No")
    return {record_id for record_id, text in stated.items() if text.lower() in _YES}
