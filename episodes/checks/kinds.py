"""The kinds of things that a check finds, and what the toolkit does about each: the one table of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from episodes.datasets.complaints import ComplaintKind

Kind = (
    ComplaintKind
    | Literal[
        "truncated or damaged",
        "unknown mask colour",
        "conflicting labels",
        "patient under two names",
        "empty lesion mask",
        "normal with lesion",
        "class against label",
        "mask of another size",
        "size against table",
        "scaled copy",
        "blank image",
        "tiny lesion",
        "several lesions",
        "several masks",
        "Doppler overlay",
        "marks on image",
        "combined image",
        "exact duplicates",
        "near-duplicates",
    ]
)


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What is to be known of a kind of finding.

    Attributes:
        done: what the toolkit does about it, in one line; what the user has to do where it can do nothing.
        loses_data: whether the image concerned cannot be used: other commands stop there until it is mended.
    """

    done: str
    loses_data: bool = False


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
    "unknown mask colour": KindFacts("mend the mask", loses_data=True),
    "conflicting labels": KindFacts("dropped, unless corrections say which is right"),
    "patient under two names": KindFacts("made one patient"),
    "normal with lesion": KindFacts("a binary mask is ignored, a coloured one is kept"),
    "class against label": KindFacts("the colour says the class of the lesion, the label that of the image"),
    "empty lesion mask": KindFacts("treated as normal"),
    "size against table": KindFacts("the file's own size is used"),
    "mask of another size": KindFacts("the mask is resized to the image (nearest)"),
    "blank image": KindFacts("kept"),
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
