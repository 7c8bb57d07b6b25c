"""What a check reports: findings, and the images and patients there are beside those that were published."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from episodes.checks.kinds import KINDS, Kind


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that looks wrong or is worth knowing.

    Attributes:
        kind: one of `KINDS`.
        subjects: ids of the records concerned; or a path within the root, where there is no record.
        detail: what was found.
    """

    kind: Kind
    subjects: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        dataset: name of the dataset, or names joined by commas.
        root: its folder.
        counts: number of `images` and `patients`, and of images by label; without what its reader leaves out.
        published: the same numbers as the dataset's paper gives them, as far as it does.
        patients: number of images of each patient by label; empty where the dataset names no patients.
        findings: sorted by kind in the order of `KINDS`.
    """

    dataset: str
    root: str
    counts: Mapping[str, int]
    published: Mapping[str, int] = field(default_factory=dict)
    patients: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def loses_data(self) -> bool:
        """Whether there are images that cannot be used until something is mended."""
        return any(KINDS[finding.kind].loses_data for finding in self.findings)

    @property
    def kinds(self) -> dict[Kind, int]:
        """How many findings there are of each kind that was found, in the order of `KINDS`."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if kind in found}

    def of_kind(self, kind: Kind) -> list[Finding]:
        """List the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def subjects(self, kind: Kind) -> list[str]:
        """List all that findings of one kind are about, each once, in the order of the findings."""
        return list(dict.fromkeys(subject for finding in self.of_kind(kind) for subject in finding.subjects))

    def difference(self, count: str) -> int | None:
        """How many more there are than were published; None where nothing was published."""
        return self.counts[count] - self.published[count] if count in self.published else None

    def as_json(self) -> dict[str, Any]:
        """Everything as plain data: counts, images of each patient, kinds with what is done about them, findings."""
        return {
            "dataset": self.dataset,
            "root": self.root,
            "counts": {
                name: {"here": here, "published": self.published.get(name), "difference": self.difference(name)}
                for name, here in self.counts.items()
            },
            "patients": {patient: dict(labels) for patient, labels in self.patients.items()},
            "kinds": {
                kind: {
                    "findings": found,
                    "subjects": len(self.subjects(kind)),
                    "done": KINDS[kind].done,
                    "loses_data": KINDS[kind].loses_data,
                }
                for kind, found in self.kinds.items()
            },
            "findings": [
                {"kind": finding.kind, "subjects": list(finding.subjects), "detail": finding.detail}
                for finding in self.findings
            ],
        }
