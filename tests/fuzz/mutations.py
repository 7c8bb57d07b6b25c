"""Ways to damage a file that was whole: its bytes, or the tree of values that it is written from."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

# Where programs that read files go wrong: ends of ranges, and sizes that memory does not have.
EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\x00" * 8)
LONGEST_CHUNK = 64

Path_ = tuple[str | int, ...]


@st.composite
def damaged(draw: st.DrawFn, original: bytes, most: int = 3) -> bytes:
    """The bytes of a file after one or several mishaps: bits flipped, the end lost, chunks added, lost or swapped."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, most))):
        _damage(draw, content)
    return bytes(content)


@st.composite
def damaged_blocks(draw: st.DrawFn, original: bytes) -> bytes:
    """The bytes of a file as a failing disk or a broken copy leaves them: large blocks zeroed, swapped or lost."""
    size = max(1, draw(st.sampled_from((len(original) // 2, 512, 4096))))
    blocks = [original[start : start + size] for start in range(0, len(original), size)]
    one, other = (draw(st.integers(0, len(blocks) - 1)) for _ in range(2))
    match draw(st.sampled_from(("zero", "swap", "lose", "copy"))):
        case "zero":
            blocks[one] = bytes(len(blocks[one]))
        case "swap":
            blocks[one], blocks[other] = blocks[other], blocks[one]
        case "lose":
            del blocks[one]
        case "copy":
            blocks[one] = blocks[other]
    return b"".join(blocks)


def _damage(draw: st.DrawFn, content: bytearray) -> None:
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    chunk = slice(place, place + draw(st.integers(1, LONGEST_CHUNK)))
    match draw(st.sampled_from(("flip", "extreme", "cut", "insert", "delete", "repeat", "swap"))):
        case "flip" if content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        case "extreme":
            value = draw(st.sampled_from(EXTREMES))
            content[place : place + len(value)] = value
        case "cut":
            del content[place:]
        case "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=LONGEST_CHUNK))
        case "delete":
            del content[chunk]
        case "repeat":
            content[place:place] = content[chunk] * draw(st.sampled_from((1, 2, 100)))
        case "swap":
            other = draw(st.integers(0, max(len(content) - 1, 0)))
            moved = content[chunk]
            del content[chunk]
            content[other:other] = moved


def nested(depth: int) -> list[Any]:
    """A list in a list in a list ..."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# What a value can be in place of what it should be.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64 + 1, -(2**63) - 1, 10**30, 0.5, -1e-300, 1e308),
    *("", " ", "a", "-1", "1e999", "../..", "/", "a\nb", "\x1b[31m", "nan", "é", "x" * 300, "x" * 20_000, "mod:attr"),
    *([], {}, [[]], {"": None}, [None], [-1], ["a", 1], list(range(300)), {"a": {"b": {"c": []}}}, nested(60)),
)


@st.composite
def damaged_tree(draw: st.DrawFn, original: Any, most: int = 3) -> Any:
    """A tree of JSON values of which some are of another type, too large, missing, renamed or repeated."""
    tree = deepcopy(original)
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(tree))
        if not places:
            return draw(st.sampled_from(VALUES))
        *parents, key = draw(st.sampled_from(places))
        whole = tree
        for parent in parents:
            whole = whole[parent]
        _damage_value(draw, whole, key)
    return tree


def _damage_value(draw: st.DrawFn, whole: Any, key: str | int) -> None:
    kind = draw(st.sampled_from(("value", "value", "value", "delete", "rename", "repeat")))
    if kind == "delete":
        del whole[key]
    elif kind == "rename" and isinstance(whole, dict):
        whole[draw(st.sampled_from(("", "a", f"{key}s", str(key).upper(), "\n")))] = whole.pop(key)
    elif kind == "repeat" and isinstance(whole, list) and isinstance(key, int):
        whole.insert(key, deepcopy(whole[key]))
    else:
        whole[key] = deepcopy(draw(st.sampled_from(VALUES)))


def _places(tree: Any, before: Path_ = ()) -> Iterator[Path_]:
    """The path of every value in a tree, by keys and indices."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*before, key)
        if len(before) < 20:
            yield from _places(value, (*before, key))
