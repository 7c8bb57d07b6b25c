"""Which of a draw's images a row is given: the first as they were drawn, or the first as its encoder selects them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from episodes.draws import SupportDraw
from episodes.store import Collection
from fewshot.benchmark.tasks import SupportDraws
from fewshot.parsing import ConfigError
from fewshot.results.table import Cell
from fewshot.selection.choice import By, choose
from fewshot.selection.description import describe_images
from fewshot.training.familiar import AnyEncoder, find_encoder

DEFAULT_BY: By = "k-medoids"


def selected_path(folder: Path, cell: Cell) -> Path:
    """Where a run keeps the draws of a row that selects, in the order in which its model's encoder selects them."""
    fold = "" if cell.fold < 0 else f"-fold{cell.fold}"
    return folder / "selected" / cell.target / f"{cell.method}-seed{cell.seed}{fold}.jsonl"


def selected_protocol(
    protocol: SupportDraws, path: Path, network: nn.Module, collection: Collection, by: By, device: torch.device
) -> SupportDraws:
    """The protocol with every draw's support images as the network's encoder selects them; the queries stay.

    They are selected once and written to a file, from which a run that goes on takes them.

    Args:
        protocol: as drawn.
        path: of the file.
        network: of the row, on the device.
        collection: holds the images.
        by: what makes a choice good.
        device: where to compute.

    Raises:
        ManifestError: if the file is damaged, or belongs to other records.
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """
    if not path.is_file():
        encoder = require_encoder(network)
        drawn = [select_support(draw, encoder, collection, by, device) for draw in protocol.drawn]
        replace(protocol, drawn=drawn).write_draws(path, selected_by=by)
    return protocol.read_draws(path)


def select_support(
    draw: SupportDraw, encoder: AnyEncoder, collection: Collection, by: By, device: torch.device
) -> SupportDraw:
    """The draw with its support images in the order of `choose`: the first K are the K that are selected."""
    features = describe_images(encoder, [collection.image(record_id) for record_id in draw.support], device)
    order: Sequence[int] = choose(features, draw.support, len(draw.support), by)  # each is of another patient
    return replace(draw, support=tuple(draw.support[place] for place in order))


def require_encoder(network: nn.Module) -> AnyEncoder:
    """The network's encoder.

    Raises:
        ConfigError: if it has none of ours.
    """
    encoder = find_encoder(network)
    if encoder is None:
        raise ConfigError(f"support: {type(network).__name__} has no encoder of this toolkit's to select images by")
    return encoder
