"""Digests of what the commands write: by key, and without anything that depends on the place, the time or a version."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

Entries = dict[str, Any]
"""What is compared: strings, numbers, booleans and None, by key."""

LONGEST = 20_000  # characters of a text that is kept whole, so that a difference can be read

# Keys of JSON files that differ from run to run or from version to version. `checkpoint` and `checkpoint_sha256` are
# hashes of files that name the version.
_OF_THE_RUN = re.compile(
    r"(^|[.\]])(\w*seconds|peak_bytes|version|fewshot_version|commit|python|platform|packages|gpu|checkpoint_sha256)($|[.\[])"
)
_CHECKPOINT_HASH = re.compile(r"[0-9a-f]{64}")

# Of the page, what a run cost and where it ran.
_COSTS_OF_PAGE = re.compile(r'<table class="costs">.*?</table>|<summary>Environment.*?</details>', re.DOTALL)

_LEFT_OUT = (
    "cells/",  # what an interrupted benchmark goes on from; results.parquet is made of it
    "cache/matplotlib/",  # matplotlib's own
    "cache/Microsoft/",  # ONNX Runtime's own: a random number for the machine, and a database
    "__pycache__",
)


def digest_folder(root: Path) -> Entries:
    """Digest every file in a folder that is not hidden, its place taken out of texts."""
    found: Entries = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.name.startswith(".") and not any(part in f"{name}/" for part in _LEFT_OUT):
            found |= {f"{name}{key}": value for key, value in _digest_file(path, root).items()}
    return found


def without_place(text: str, root: Path) -> str:
    """Replace the temporary folder, and how long steps took, in a text."""
    text = re.sub(rf"(/private)?{re.escape(str(root))}", "WORK", text)
    return re.sub(r": \d+\.\d s\b|\b\d+ ms(?= an image)", ": TIME", text)


def text_digest(text: str) -> str:
    """Keep a text, or the hash of a long one."""
    return text if len(text) <= LONGEST else f"{len(text)} characters, {_hash(text.encode())}"


def flatten(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a JSON tree by key, such as `.rows[3].dice`, without those of one run alone."""
    if _OF_THE_RUN.search(key):
        return
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from flatten(value, f"{key}.{name}")
    elif isinstance(tree, list) and tree:
        for place, value in enumerate(tree):
            yield from flatten(value, f"{key}[{place}]")
    else:
        yield key, tree


def _digest_file(path: Path, root: Path) -> Entries:
    return _KINDS.get(path.suffix, _text_or_bytes)(path, root)


def _text_or_bytes(path: Path, root: Path) -> Entries:
    try:
        return {"": text_digest(without_place(path.read_text(encoding="utf-8"), root))}
    except UnicodeDecodeError:
        return {"": _hash(path.read_bytes())}


def _json(path: Path, root: Path) -> Entries:
    found = dict(flatten(json.loads(without_place(path.read_text(encoding="utf-8"), root))))
    # A prediction names its checkpoint by the hash of the whole file.
    found = {k: v for k, v in found.items() if not (k == ".checkpoint" and _CHECKPOINT_HASH.fullmatch(str(v)))}
    if path.name == "index.json" and "stores" in path.parts:  # thousands of lines that say where images lie
        return {"": _hash(repr(sorted(found.items())).encode())}
    return {f"#{key}": value for key, value in found.items()}


def _yaml(path: Path, root: Path) -> Entries:
    tree = yaml.safe_load(without_place(path.read_text(encoding="utf-8"), root))
    return {f"#{key}": value for key, value in flatten(tree)}


def _html(path: Path, root: Path) -> Entries:
    text = _COSTS_OF_PAGE.sub("", without_place(path.read_text(encoding="utf-8"), root))
    return {"": f"{len(text)} characters, {_hash(text.encode())}"}


def _drawing(path: Path, root: Path) -> Entries:
    return {"": _hash(path.read_bytes())}


def _csv(path: Path, root: Path) -> Entries:
    text = without_place(path.read_text(encoding="utf-8"), root)
    if path.name.startswith("costs"):  # times and memory; that there is a line for each row is what stays
        text = "\n".join(",".join(line.split(",")[:3]) for line in text.splitlines())
    return {"": text_digest(text)}


def _cost_table(path: Path, root: Path) -> Entries:
    """A report's costs to read: no number of it stays."""
    if path.stem.startswith("costs"):
        return {"": f"{len(path.read_text(encoding='utf-8').splitlines())} lines"}
    return _text_or_bytes(path, root)


def _picture(path: Path, root: Path) -> Entries:
    with Image.open(path) as image:
        return {"": f"{image.mode} {image.width}x{image.height} {_hash(image.tobytes())}"}


def _array(path: Path, root: Path) -> Entries:
    return {"": array_digest(np.load(path, allow_pickle=False))}


def array_digest(array: NDArray[Any]) -> str:
    """Describe an array by type, shape and the hash of its bytes."""
    return f"{array.dtype} {list(array.shape)} {_hash(np.ascontiguousarray(array).tobytes())}"


def _table(path: Path, root: Path) -> Entries:
    """Columns by hash of their values, NaN and null told apart, and what the file says of itself."""
    table = pq.read_table(path)
    found: Entries = {"#rows": len(table)}
    for name in table.column_names:
        column = table.column(name)
        found[f"#{name}"] = f"{column.type} {_hash(repr(column.to_pylist()).encode())}"
    for key, value in (table.schema.metadata or {}).items():
        found |= _metadata(key.decode(), without_place(value.decode(), root))
    return found


def _checkpoint(path: Path, root: Path) -> Entries:
    with safe_open(path, framework="np") as file:
        found: Entries = {f"#{name}": array_digest(file.get_tensor(name)) for name in sorted(file.keys())}
        for key, value in (file.metadata() or {}).items():
            found |= _metadata(key, without_place(value, root))
    return found


def _metadata(key: str, value: str) -> Entries:
    """A header's entry, taken apart where it is JSON."""
    if key == "ARROW:schema":
        return {}
    try:
        tree = json.loads(value)
    except ValueError:
        tree = value
    return {f"#metadata{name}": leaf for name, leaf in flatten(tree, f".{key}")}


def _network(path: Path, root: Path) -> Entries:
    """What an ONNX file answers to a fixed picture; its bytes name places in the source that it was made from."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    # A method is named `module:class` where its user named none, and modules may move.
    metadata = {key: re.sub(r"^[\w.]+:(?=\w+$)", "", value) for key, value in metadata.items()}
    found: Entries = {}
    for key, value in sorted(metadata.items()):
        found |= _metadata(key, without_place(value, root))
    size = int(metadata["image_size"])
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    image = (0.5 + 0.5 * np.sin(9 * ramp[:, None] * ramp[None, :] + 3 * ramp[:, None])).astype(np.float32)
    images = np.broadcast_to(image, (2, 3, size, size)) * np.array([1, 0.7], np.float32)[:, None, None, None]
    for output, values in zip(session.get_outputs(), session.run(None, {"images": images}), strict=True):
        found[f"#{output.name}.shape"] = list(values.shape)
        for place in np.linspace(0, values.size - 1, 12).astype(int):
            found[f"#{output.name}[{place}]"] = round(float(values.ravel()[place]), 5)
        found[f"#{output.name}.mean"] = round(float(values.mean(dtype=np.float64)), 5)
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


_KINDS: dict[str, Callable[[Path, Path], Entries]] = {
    ".json": _json,
    ".yaml": _yaml,
    ".html": _html,
    ".svg": _drawing,
    ".csv": _csv,
    ".md": _cost_table,
    ".tex": _cost_table,
    ".png": _picture,
    ".jpg": _picture,
    ".npy": _array,
    ".parquet": _table,
    ".safetensors": _checkpoint,
    ".onnx": _network,
}
