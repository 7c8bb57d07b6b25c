"""Supervised networks as methods: used as they are, or fine-tuned on the support set."""

from copy import deepcopy
from hashlib import sha256
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from episodes.episode import Support, image_tensor
from episodes.transforms import Augmentation
from fewshot.config import TrainingConfig
from fewshot.engine import rate_factor
from fewshot.methods import Ingredients
from fewshot.parsing import ConfigError, parse_config


@runtime_checkable
class LesionNetwork(Protocol):
    """A supervised network for lesion against background; it trains on images, not on episodes."""

    trains_on: Literal["images"]

    def __call__(self, images: Tensor) -> Tensor:
        """Lesion logits (n, H, W) of images (n, 3, H, W)."""

    def loss(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Training losses, among them `loss`."""


def lesion_network(ingredients: Ingredients) -> nn.Module:
    """The ingredients' network, which must be a supervised one.

    Raises:
        ConfigError: says what is there instead.
    """
    network: nn.Module = ingredients.require_network(LesionNetwork)
    if network.trains_on != "images":  # a few-shot network has a `loss` as well
        raise ConfigError(f"the method needs a supervised model, and was given {type(network).__name__}; set `model`")
    return network


class ZeroShot:
    """Use the network as it was trained on the sources."""

    uses_support = False

    def __init__(self, ingredients: Ingredients) -> None:
        self.network = lesion_network(ingredients)

    def adapt(self, support: Support | None) -> nn.Module:
        """The network itself."""
        del support
        return self.network

    def segment(self, images: Tensor, adapted: nn.Module) -> Tensor:
        """Logits (n, 2, H, W)."""
        return two_class_logits(adapted(images))


class FineTuned:
    """Go on training a copy of the network on the support set, augmented.

    Args:
        ingredients: with a network that has lesion logits.
        steps: optimiser steps; each takes every support image once, differently augmented.
        learning_rate: the highest, of AdamW; warm-up and cosine decay as in training.
        weight_decay: of AdamW.
        augmentation: of the support images.
        parts: what is trained: `all`, or the `decoder` (everything but the encoder).
    """

    uses_support = True

    def __init__(
        self,
        ingredients: Ingredients,
        *,
        steps: int = 40,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-4,
        augmentation: Literal["none", "light", "strong"] = "light",
        parts: Literal["all", "decoder"] = "all",
    ) -> None:
        self.network = lesion_network(ingredients)
        self.device = ingredients.device
        self.seed = ingredients.seed
        schedule = {
            "steps": steps,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "warmup_steps": max(steps, 0) // 10,
            "augmentation": augmentation,
        }
        self.schedule = parse_config(schedule, TrainingConfig, "fine-tuned options")
        self.parts = parts

    def adapt(self, support: Support | None) -> nn.Module:
        """A fine-tuned copy of the network; the same for the same support set."""
        if support is None:
            raise ValueError("fine-tuning needs a support set")
        with torch.inference_mode(False), torch.enable_grad():
            return self._fine_tune(support)

    def _fine_tune(self, support: Support) -> nn.Module:
        network = deepcopy(self.network).train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # the statistics of one to five images would not be those of the others
        trained = [
            parameter
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and (self.parts == "all" or not name.startswith("encoder."))
        ]
        config = self.schedule
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        batches = SupportBatches(support, Augmentation(config.augmentation), self.seed)
        for step in range(config.steps):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * rate_factor(step, config)
            images, masks = batches[step]
            loss = network.loss(images.to(self.device), masks.to(self.device))["loss"]  # type: ignore[operator]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return network.eval()

    def segment(self, images: Tensor, adapted: nn.Module) -> Tensor:
        """Logits (n, 2, H, W)."""
        return two_class_logits(adapted(images))


class SupportBatches:
    """Step i's augmented support images and masks; they depend on the seed, the support set and i alone."""

    def __init__(self, support: Support, augmentation: Augmentation, seed: int) -> None:
        grey = support.images.flatten(0, 1)[:, 0]
        self.images = (grey * 255).round().to(torch.uint8).cpu().numpy()
        self.masks = support.masks.flatten(0, 1).to(torch.uint8).cpu().numpy()
        self.augmentation = augmentation
        content = sha256(self.images.tobytes() + self.masks.tobytes()).digest()
        self.seeds = [seed, int.from_bytes(content[:4], "big")]

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (n, 3, H, W) in [0, 1] and masks (n, H, W)."""
        states = np.random.SeedSequence([*self.seeds, step]).generate_state(len(self.images)) >> 1
        pairs: list[Any] = [
            self.augmentation(image, mask, seed=int(state))
            for image, mask, state in zip(self.images, self.masks, states, strict=True)
        ]
        images = image_tensor(np.stack([image for image, _ in pairs]))
        return images, torch.from_numpy(np.stack([mask for _, mask in pairs])).float()


def two_class_logits(lesion: Tensor) -> Tensor:
    """Logits (n, 2, H, W) whose softmax is the sigmoid of lesion logits (n, H, W)."""
    return torch.stack([torch.zeros_like(lesion), lesion], dim=1)
