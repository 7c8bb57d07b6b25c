"""What is to be predicted, and the model that it asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from episodes.metrics import Spacing
from fewshot.api import Adaptable, load
from fewshot.checkpoints import read_facts
from fewshot.methods.contract import needs_support
from fewshot.parsing import ConfigError

# Arguments of `fewshot.api.load`, which are no options of a method.
_OF_LOADING = {"checkpoint", "method", "image_size", "device"}

# What goes on training a few-shot network; a supervised one is fine-tuned.
_FINETUNED = {"panet": "tuned-prototypes"}


@dataclass(frozen=True, slots=True)
class Request:
    """What `fewshot predict` is asked for.

    Attributes:
        checkpoint: the model.
        images: a file, a folder or a pattern.
        support: folder of annotated images to adapt to; None for none.
        shots: how many of them, the first by name; None for all, 0 for none.
        method: how the model is used; None for what goes with it.
        adapt: `finetune` to go on training the model on the annotated images.
        options: of the method.
        masks: folder of known masks to judge by; None for none.
        spacing: millimetres from pixel to pixel, of images of which nothing else is known.
        batch: images at once; None for what suits the device.
        npy: whether probabilities are written as NumPy's files, in place of pictures.
        device: where to compute.
    """

    checkpoint: Path
    images: str
    support: Path | None = None
    shots: int | None = None
    method: str | None = None
    adapt: Literal["finetune"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    masks: Path | None = None
    spacing: Spacing | None = None
    batch: int | None = None
    npy: bool = False
    device: str = "auto"

    @property
    def support_used(self) -> Path | None:
        """The folder of annotated images, if any of them are asked for."""
        return None if self.shots == 0 else self.support


def load_model(request: Request) -> Adaptable:
    """The model as the request wants it used.

    Raises:
        UserError: if it cannot be loaded, or does not go with what else is asked for.
    """
    _require_sense(request)
    method = request.method
    if request.adapt == "finetune":
        method = _finetuning(read_facts(request.checkpoint))
    model = load(request.checkpoint, method, device=request.device, **request.options)
    named = f"{request.checkpoint}: {model.name}"
    if request.support_used is None and needs_support(model.method):
        raise ConfigError(
            f"{named} needs annotated images; give a folder of them, with images/ and masks/, as --support"
        )
    if request.support_used is not None and not model.method.uses_support:
        raise ConfigError(
            f"{named} does not use annotated images; add --adapt finetune to train it on them, or leave out --support"
        )
    return model


def _require_sense(request: Request) -> None:
    """Refuse what contradicts itself."""
    if foreign := _OF_LOADING & request.options.keys():
        raise ConfigError(f"{min(foreign)}: no method has such an option; leave it out")
    if request.shots and request.support is None:
        raise ConfigError("--shots says how many annotated images to take; give their folder as --support")
    if request.adapt is None:
        return
    if request.method is not None:
        raise ConfigError(f"--adapt {request.adapt} is a method of its own; leave out --method {request.method}")
    if request.support_used is None:
        raise ConfigError("--adapt finetune needs annotated images; give a folder of them as --support")


def _finetuning(facts: Mapping[str, Any]) -> str:
    """The method that goes on training a checkpoint's network."""
    network = facts.get("model", {}).get("network", "")
    if network == "maml":
        raise ConfigError("--adapt finetune: maml trains on the annotated images by itself; leave it out")
    return _FINETUNED.get(network, "fine-tuned")
