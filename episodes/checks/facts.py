"""What a dataset states of its images: what is drawn on them, and their size, which may not be the file's."""

from collections.abc import Iterator, Mapping, Sequence

from episodes.checks.content import Content
from episodes.checks.findings import Finding
from episodes.checks.kinds import Kind
from episodes.checks.masks import Size, size_text
from episodes.records import Record

# Columns of tables, as `Record.extra` holds them.
_FLAGS: Mapping[str, Kind] = {
    "Doppler": "Doppler overlay",
    "Marks": "marks on image",
    "Combined": "combined image",
}
# Pixels by which the shorter side of an image may differ after scaling: half of one is rounding.
_ROUNDING = 0.6


def find_flags(records: Sequence[Record]) -> Iterator[Finding]:
    """Find the images on which, as the dataset states, more than tissue is to be seen."""
    for record in records:
        for column, kind in _FLAGS.items():
            if record.extra.get(column, "").lower() == "yes":
                yield Finding(kind, (record.id,), f"{column}: {record.extra[column]}")


def compare_stated_sizes(contents: Sequence[Content], stated: Mapping[str, Size]) -> Iterator[Finding]:
    """Find images whose size is not what the dataset's table says.

    Of copies at another scale only those are wrong that have another aspect ratio.

    Args:
        contents: the decoded images.
        stated: (H, W) by the stem of the image.
    """
    for content in contents:
        size, said = content.size, stated.get(content.record.stem)
        if size is None or said is None or size == said:
            continue
        kind: Kind = "scaled copy" if _is_scaled(size, said) else "size against table"
        yield Finding(kind, (content.record.id,), f"{size_text(size)}, but {size_text(said)} in the table")


def _is_scaled(size: Size, said: Size) -> bool:
    """Whether both sides were scaled alike.

    >>> _is_scaled((227, 320), (606, 856)), _is_scaled((252, 320), (606, 856))
    (True, False)
    """
    scale = max(size) / max(said)
    return scale != 1 and all(abs(here - there * scale) <= _ROUNDING for here, there in zip(size, said, strict=True))
