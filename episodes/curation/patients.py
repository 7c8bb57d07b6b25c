"""Doubts about the patients that a dataset names."""

from collections.abc import Iterator, Sequence

from episodes.curation.findings import Finding
from episodes.datasets.patients import similar_names
from episodes.records import Record

_SHOWN = 5  # names of a group


def doubt_patients(records: Sequence[Record]) -> Iterator[Finding]:
    """Find one patient that all images are said to be of, and names that may be one patient's."""
    by_name: dict[str, list[str]] = {}
    for record in records:
        if record.names_patient:
            by_name.setdefault(record.patient, []).append(record.id)
    if len(by_name) == 1 and len(records) > 1:
        ((name, ids),) = by_name.items()
        if len(ids) == len(records):
            yield Finding("one patient", tuple(ids), f"all {len(ids)} images are of one patient ({name})")
    for names in similar_names(by_name):
        ids = [one for name in names for one in by_name[name]]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield Finding("names alike", tuple(ids), f"patients {', '.join(names[:_SHOWN])}{more} are named alike")
