"""The methods that a user of the page can choose from: what the given checkpoints can be used for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from episodes.errors import UserError
from fewshot.checkpoints import load_network
from fewshot.config.parsing import ConfigError
from fewshot.devices import choose_device
from fewshot.inference.loading import LoadedMethod, as_method
from fewshot.inference.out_of_distribution import load_novelty_detector
from fewshot.methods.contract import EncodingMethod, default_method, needs_support

# They train anew for every set of support images.
SLOW = frozenset({"fine-tuned", "tuned-prototypes"})

# What a checkpoint alone can serve, the quickest first, and what the page says of each.
DESCRIPTIONS = {
    "prototypes": "Compares every pixel with your support images. Quick.",
    "maml": "Adjusts the network to your support images in a few steps.",
    "zero-shot": "As it was trained. Support images change nothing.",
    "fine-tuned": "Trains a copy of the network on your support images. Takes a while after each of them.",
    "tuned-prototypes": "Trains a copy on your support images, then compares with them. Takes a while after each.",
}


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """One method of one checkpoint."""

    id: str  # for requests
    title: str  # what the checkpoint is called on the page
    checkpoint: Path
    model: LoadedMethod  # its network by this method

    @property
    def fewest(self) -> int:
        """Return how many support images it needs at least."""
        return 1 if needs_support(self.model.method) else 0

    @property
    def encoder(self) -> EncodingMethod | None:
        """Return the method, if features of images can be computed once and kept."""
        method = self.model.method
        return method if isinstance(method, EncodingMethod) else None

    def as_json(self) -> dict[str, object]:
        """Return what the page needs to know."""
        return {
            "id": self.id,
            "model": self.title,
            "method": self.model.name,
            "description": DESCRIPTIONS.get(self.model.name, "A method of your own."),
            "fewest": self.fewest,
            "most": None if self.model.method.uses_support else 0,  # None for any number
            "slow": self.model.name in SLOW,
        }


def load_choices(checkpoints: Sequence[Path], device: str = "auto", trust: Sequence[str] = ()) -> list[MethodChoice]:
    """Load every method that goes with the checkpoints, each checkpoint's own default first.

    `trust` names the modules that their networks may be of.

    Raises:
        UserError: if a checkpoint cannot be read, or no method goes with it.
    """
    place = choose_device(device)
    titles = _titles(checkpoints)
    choices: list[MethodChoice] = []
    for number, (path, title) in enumerate(zip(checkpoints, titles, strict=True)):
        network, loaded = load_network(path, trust)
        methods = _methods(network, loaded.facts, place)
        if not methods:
            raise UserError(f"{path}: no method goes with it by itself; the page can use none but these")
        detector = load_novelty_detector(path, network, place)
        choices += [
            MethodChoice(f"{number}-{one.name}", title, path, replace(one, novelty_detector=detector))
            for one in methods
        ]
    return choices


def _methods(network: nn.Module, facts: Mapping[str, Any], device: torch.device) -> list[LoadedMethod]:
    try:
        first = [default_method(facts["model"]["network"], network)]
    except ConfigError:  # a network of the user's own
        first = []
    found = []
    for name in dict.fromkeys([*first, *DESCRIPTIONS]):
        try:
            found.append(as_method(network, name, int(facts["image_size"]), device, {}))
        except ConfigError:
            continue
    return found


def _titles(checkpoints: Sequence[Path]) -> list[str]:
    """Name checkpoints: by their folders where the files are all called `checkpoint`; never alike.

    >>> _titles([Path("runs/panet/checkpoint.safetensors"), Path("unet.safetensors"), Path("b/unet.safetensors")])
    ['panet', 'unet', 'unet (2)']
    """
    titles: list[str] = []
    for path in checkpoints:
        title = path.resolve().parent.name if path.stem == "checkpoint" else path.stem
        same = sum(other == title or other.startswith(f"{title} (") for other in titles)
        titles.append(f"{title} ({same + 1})" if same else title)
    return titles
