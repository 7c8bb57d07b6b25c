"""The findings of a check, and the kinds there are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from episodes.datasets.problems import ProblemKind

Kind = (
    ProblemKind
    | Literal["unreadable", "truncated or damaged", "blank image", "dim image", "size against table", "scaled copy"]
    | Literal["unclear mask", "doubtful mask", "empty lesion mask", "tiny lesion", "several lesions", "several masks"]
    | Literal["normal with lesion", "class against label", "mask of another size"]
    | Literal["exact duplicates", "near-duplicates", "conflicting labels", "two patients, two labels"]
    | Literal["patient under two names", "names alike", "one patient"]
    | Literal["Doppler overlay", "marks on image", "combined image"]
)


@dataclass(frozen=True, slots=True)
class KindFacts:
    """The facts of a kind of finding."""

    done: str  # what the toolkit does about it, in one line; what the user has to do where it can do nothing
    loses_data: bool = False  # whether the image concerned cannot be used: other commands stop there until it is mended


# In the order in which they are shown: what has to be mended, what has to be looked at, what is good to know.
KINDS: Mapping[Kind, KindFacts] = {
    "missing file": KindFacts("restore it, or remove the image", loses_data=True),
    "missing row": KindFacts("add the row, or remove the image", loses_data=True),
    "bad row": KindFacts("mend the table", loses_data=True),
    "bad label": KindFacts("mend the table", loses_data=True),
    "bad value": KindFacts("mend the value, or restore the file", loses_data=True),
    "name taken twice": KindFacts("rename one of the two", loses_data=True),
    "unreadable": KindFacts("restore the file", loses_data=True),
    "truncated or damaged": KindFacts("restore the file", loses_data=True),
    "unclear mask": KindFacts("mend the mask; where all are the wrong way round, say so", loses_data=True),
    "not read": KindFacts("save it as PNG, or move it into a folder that is read", loses_data=True),
    "conflicting labels": KindFacts("dropped, unless corrections say which is right"),
    "two patients, two labels": KindFacts("kept: they are named apart; exclude by corrections what is wrong"),
    "patient under two names": KindFacts("made one patient"),
    "doubtful mask": KindFacts("read as it is drawn; refused in a support set"),
    "one patient": KindFacts("nothing is left to test on: if they are several, name them in the column patient"),
    "names alike": KindFacts("they count as several patients: if they are one, spell them alike in the table"),
    "patient by study": KindFacts("name patients in the column patient of metadata.csv"),
    "unnamed patient": KindFacts("each counts as a patient of its own"),
    "spacing not used": KindFacts("distances and areas stay in pixels: mend the column spacing_mm"),
    "table not read": KindFacts("left out"),
    "unused column": KindFacts("kept beside the image, and not used"),
    "normal with lesion": KindFacts("a binary mask is ignored, a coloured one is kept"),
    "class against label": KindFacts("the colour says the class of the lesion, the label that of the image"),
    "empty lesion mask": KindFacts("treated as normal"),
    "size against table": KindFacts("the file's own size is used"),
    "mask of another size": KindFacts("the mask is resized to the image (nearest)"),
    "blank image": KindFacts("kept"),
    "dim image": KindFacts("kept as it is; if all are, the file uses fewer bits than it states: export it again"),
    "row without image": KindFacts("ignored: a partial copy can be used"),
    "stray copy": KindFacts("left out"),
    "extra file": KindFacts("left out"),
    "exact duplicates": KindFacts("treated as near-duplicates"),
    "near-duplicates": KindFacts("made one patient, so that no split separates them"),
    "tiny lesion": KindFacts("kept"),
    "several lesions": KindFacts("kept: one label map holds them all"),
    "several masks": KindFacts("their union is the lesion"),
    "Doppler overlay": KindFacts("kept; the policy `doppler: drop` leaves it out"),
    "marks on image": KindFacts("kept"),
    "combined image": KindFacts("kept"),
    "scaled copy": KindFacts("kept: smaller or larger than the table says, of the same shape"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that looks wrong or is worth knowing."""

    kind: Kind  # one of `KINDS`
    subjects: tuple[str, ...]  # ids of the records concerned; or a path within the root, where there is no record
    detail: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The findings of a check."""

    dataset: str  # name of the dataset, or names joined by commas
    root: str  # its folder
    # Number of `images` and `patients`, and of images by label; without what its reader leaves out.
    counts: Mapping[str, int]
    # The same numbers as the dataset's paper gives them, as far as it does.
    published: Mapping[str, int] = field(default_factory=dict)
    # Number of images of each patient by label; empty where the dataset names no patients.
    patients: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    grey_scales: tuple[str, ...] = ()  # how values of more than 8 bits are shown, in words
    findings: tuple[Finding, ...] = ()  # sorted by kind in the order of `KINDS`

    @property
    def loses_data(self) -> bool:
        """Tell whether there are images that cannot be used until something is mended."""
        return any(KINDS[finding.kind].loses_data for finding in self.findings)

    @property
    def kinds(self) -> dict[Kind, int]:
        """Count the findings of each kind that was found, in the order of `KINDS`."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if kind in found}

    def of_kind(self, kind: Kind) -> list[Finding]:
        """List the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def subjects(self, kind: Kind) -> list[str]:
        """List all that findings of one kind are about, each once, in the order of the findings."""
        return list(dict.fromkeys(subject for finding in self.of_kind(kind) for subject in finding.subjects))

    def difference(self, count: str) -> int | None:
        """Return how many more there are than were published; None where nothing was published."""
        return self.counts[count] - self.published[count] if count in self.published else None

    def as_json(self) -> dict[str, Any]:
        """Return all as plain data: counts, images of each patient, kinds and what is done about them, findings."""
        return {
            "dataset": self.dataset,
            "root": self.root,
            "counts": {
                name: {"here": here, "published": self.published.get(name), "difference": self.difference(name)}
                for name, here in self.counts.items()
            },
            "patients": {patient: dict(labels) for patient, labels in self.patients.items()},
            "grey_scales": list(self.grey_scales),
            "kinds": {
                kind: {"findings": found, "subjects": len(self.subjects(kind)), **asdict(KINDS[kind])}
                for kind, found in self.kinds.items()
            },
            "findings": [asdict(finding) for finding in self.findings],
        }
