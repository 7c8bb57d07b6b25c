"""Who is whom: the patients of DICOM files under pseudonyms, and names that may be of one patient."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from unicodedata import normalize

from episodes.datasets.problems import report_problem
from episodes.datasets.tables import is_missing
from episodes.images.dicom_header import IDENTITY, DicomFacts, IdentityKeyword
from episodes.names import composed
from episodes.records import UNKNOWN


def name_patients(files: Mapping[Path, DicomFacts], named: Mapping[Path, str]) -> dict[Path, str]:
    """Name the patients of DICOM files, in the order of paths, so that the names tell nothing else: `patient-001`.

    A patient is known again by PatientID. A file without one belongs to the patient of another file of its study, else
    its study is a patient, else its PatientName. Who is named otherwise already, by path, keeps that name; files that
    say nothing get none.
    """
    keys = dict(_identify(files))
    names = {keys[path]: named[path] for path in sorted(named, reverse=True) if path in keys}
    taken = set(named.values())
    free = (name for number in count(1) if (name := f"patient-{number:03d}") not in taken)
    for path in sorted(keys):
        if keys[path] not in names:
            names[keys[path]] = next(free)
    return {path: names[key] for path, key in keys.items()}


def describe_identities(files: Collection[DicomFacts]) -> str:
    """Say by what the patients of DICOM files are told apart where it is not PatientID; nothing where it always is."""
    used = Counter(next((keyword for keyword in IDENTITY if keyword in facts.identity), None) for facts in files)
    without = len(files) - used["PatientID"]
    if not without:
        return ""
    ways = [f"{used[keyword]} go by {keyword}" for keyword in IDENTITY[1:] if used[keyword]]
    ways += [f"each of {used[None]} is a patient of its own"] if used[None] else []
    return (
        f"{without} of {len(files)} DICOM files have no PatientID, or an anonymiser's: {', '.join(ways)}, so that one"
        " patient may count as several"
    )


def _identify(files: Mapping[Path, DicomFacts]) -> Iterator[tuple[Path, tuple[IdentityKeyword, str]]]:
    """Yield the key of each file's patient, if it has any."""
    of_study: dict[str, set[str]] = {}
    for facts in files.values():
        if {"StudyInstanceUID", "PatientID"} <= facts.identity.keys():
            of_study.setdefault(facts.identity["StudyInstanceUID"], set()).add(facts.identity["PatientID"])
    for path, facts in files.items():
        identity = dict(facts.identity)
        patients = of_study.get(identity.get("StudyInstanceUID", ""), set())
        if "PatientID" not in identity and len(patients) == 1:
            (identity["PatientID"],) = patients
        if keyword := next((keyword for keyword in IDENTITY if keyword in identity), None):
            yield path, (keyword, identity[keyword])


def similar_names(names: Iterable[str]) -> list[list[str]]:
    """Find names that may be one patient's: they differ in case, marks, spaces or leading zeros alone.

    >>> similar_names(["P-01", "p-1", "P 01", "P-11", "1", "01", "1.0", "10", "1.2"])
    [['1', '01', '1.0'], ['p-1', 'P 01', 'P-01']]
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(set(names)):
        alike.setdefault(_spelling(name), []).append(name)
    groups = (sorted(group, key=lambda name: (len(name), name)) for group in alike.values() if len(group) > 1)
    return sorted(groups)


def _spelling(name: str) -> tuple[str, ...]:
    """Split a name into words and numbers, without what may differ between two ways to spell it.

    >>> _spelling("P-01"), _spelling("12.0"), _spelling("1.2")
    (('p', '1'), ('12',), ('1', '2'))
    """
    text = normalize("NFKC", name).casefold().strip()
    text = re.sub(r"(?<=\d)[.,]0+$", "", text)  # as a spreadsheet writes a whole number
    parts = re.findall(r"\d+|[^\W\d_]+", text)
    return tuple(part.lstrip("0") or "0" if part.isdecimal() else part for part in parts) or (text,)


def patient_name(text: str, origin: str) -> str:
    """Spell a patient's name as a table gives it; empty, also of an unknown one. `origin` says where, for errors."""
    if is_missing(text):
        return ""
    if text.startswith(UNKNOWN):
        message = f"{origin}: the patient {text!r} begins with {UNKNOWN}, as unknown ones do; leave it empty or name it"
        report_problem("bad value", Path(origin), message)
        return ""
    return " ".join(composed(text).split())
