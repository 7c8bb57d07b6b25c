"""Which image a mask belongs to, by its name alone."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_WORD = r"masks?|seg(?:mentation)?s?|gts?|ground[ _-]?truths?|labels?|annotations?"
_AFTER = re.compile(rf"(?P<image>.+?)[ _.-](?P<word>{_WORD})(?:[ _-]?\d+)?", re.IGNORECASE)
_BEFORE = re.compile(rf"(?P<word>{_WORD})[ _.-](?P<image>.+)", re.IGNORECASE)
_FRAME = re.compile(r"(?P<clip>.+)[_-](?P<frame>\d+)")

SAME_NAME = ""


@dataclass(frozen=True, slots=True)
class MaskName:
    """How the name of a mask is understood.

    Attributes:
        image: the stem of its image.
        frame: which frame of it, from 1 on; None if the image holds one picture.
        affix: what sets its name apart from the image's, without a number: masks of one affix are parts of one lesion
            map, as BUSI's `_mask` and `_mask_1`. `SAME_NAME` if nothing does.
    """

    image: str
    frame: int | None
    affix: str


def understand(stem: str, frames: Mapping[str, int], *, same_name: bool) -> MaskName | None:
    """Find the image of a mask: the one of the same name, else the one whose name it bears with a usual affix.

    Args:
        stem: the mask's stem, such as `a`, `a_mask`, `a-seg_2`, `mask_a`; for frame 3 of a clip `clip-0003` or
            `clip_0003_mask`.
        frames: how many frames each image has, by its stem.
        same_name: whether a mask may bear its image's very name, as it does in a folder of its own.

    Returns:
        None if it belongs to none of them.

    >>> images = {"a": 1, "clip": 20}
    >>> understand("a_mask_1", images, same_name=False)
    MaskName(image='a', frame=None, affix='_mask')
    >>> understand("clip-0003", images, same_name=True)
    MaskName(image='clip', frame=3, affix='')
    >>> understand("b_mask", images, same_name=True)
    """
    for name, affix in _bare_names(stem):
        if name in frames and frames[name] == 1 and (affix or same_name):
            return MaskName(name, None, affix)
        numbered = _FRAME.fullmatch(name)
        if numbered and frames.get(numbered["clip"], 1) > 1:
            return MaskName(numbered["clip"], int(numbered["frame"]), affix)
    return None


def clip_meant(stem: str, frames: Mapping[str, int]) -> str | None:
    """The clip whose name a mask bears without saying which frame it is of; None if there is none."""
    return next((name for name, _ in _bare_names(stem) if frames.get(name, 1) > 1), None)


def looks_like_mask(stem: str) -> bool:
    """Whether a name bears an affix of masks.

    >>> looks_like_mask("scan_7_Segmentation"), looks_like_mask("scan_7"), looks_like_mask("masked")
    (True, False, False)
    """
    return bool(_AFTER.fullmatch(stem) or _BEFORE.fullmatch(stem))


def _bare_names(stem: str) -> Iterator[tuple[str, str]]:
    """The name as it is and without affixes, each with the affix."""
    yield stem, SAME_NAME
    if after := _AFTER.fullmatch(stem):
        yield after["image"], f"_{after['word'].lower()}"
    if before := _BEFORE.fullmatch(stem):
        yield before["image"], f"{before['word'].lower()}_"
