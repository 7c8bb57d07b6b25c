"""What methods cost: seconds, memory and parameters, in files of their own, since no two runs cost the same."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from episodes.errors import UserError, in_short
from episodes.files import write_text
from episodes.json_text import read_json

COSTS = "costs.json"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one row of the table costs with one training seed.

    Attributes:
        target: dataset.
        method: row of the table.
        seed: of the training.
        shot: support images; 0 for none.
        adapt_seconds: to adapt to one support set, mean over draws.
        image_seconds: to segment one image, its encoding included, mean over images and draws.
        peak_bytes: most memory held meanwhile, by the process or on the accelerator; None where it is not known.
        parameters: weights of the network; None for methods without one.
        training_seconds: of the model, on the device it was trained on; None where nothing was trained here.
        device: what it was measured on.
    """

    target: str
    method: str
    seed: int
    shot: int
    adapt_seconds: float
    image_seconds: float
    peak_bytes: int | None
    parameters: int | None
    training_seconds: float | None
    device: str


_COSTS = TypeAdapter(list[Cost])


def write_costs(folder: Path, costs: Sequence[Cost]) -> Path:
    """Write a run's costs.

    Returns:
        The file written.
    """
    path = folder / COSTS
    write_text(path, json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    return path


def read_costs(folder: Path) -> list[Cost]:
    """A run's costs; none of a run that has no such file.

    Raises:
        UserError: if the file is damaged.
    """
    path = folder / COSTS
    if not path.is_file():
        return []
    try:
        return _COSTS.validate_python(read_json(path))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({in_short(error)}); delete it, and run the benchmark again") from error
