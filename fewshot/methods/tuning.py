"""Test-time tuning: a copy of a network trained on for a few steps, on the support set alone."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from hashlib import sha256
from typing import ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from episodes.augment.transforms import Augmentation, Strength
from episodes.errors import UserError
from episodes.records import LABEL_VALUES
from episodes.sampling.episode import Support, augment_keeping_classes, image_tensor
from fewshot.checkpoints import first_not_finite
from fewshot.config.parsing import parse_config
from fewshot.config.training import TrainingConfig, rate_factor
from fewshot.methods.contract import Ingredients

Network = TypeVar("Network", bound=nn.Module)
Parts = Literal["all", "decoder", "norm"]
BatchNorm = Literal["kept", "adapted"]


class Batches(Protocol):
    """Step i's batch, as the network's `loss` takes it."""

    def __getitem__(self, step: int) -> dict[str, Tensor]: ...


@dataclass(eq=False)
class Tuning:
    """A few optimiser steps on a support set, warm-up and cosine decay as in training; its fields are options.

    Raises:
        ConfigError: names the method and the value of the schedule that is out of range.
        ValueError: if `prior_shots` is negative.
    """

    ingredients: Ingredients
    _: KW_ONLY
    steps: int = 40  # of the optimiser, AdamW; the first tenth is warm-up
    learning_rate: float = 3e-5  # the highest
    weight_decay: float = 1e-4
    augmentation: Strength = "strong"  # of the support images
    # `all`, the `decoder` (everything but the encoder), or the `norm` layers' scales and offsets.
    parts: Parts = "all"
    # How many support images the trained weights are worth, 0 or more: K images move them K / (K + prior_shots) of the
    # way from the old weights to the tuned ones, in a straight line (WiSE-FT, Wortsman et al., CVPR 2022). Few images
    # tune a network to themselves, and a part of the way keeps what they share with others.
    prior_shots: float = 2.0

    name: ClassVar[str] = "tuning"  # of the method, for errors

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in ("steps", "learning_rate", "weight_decay", "augmentation")}
        values["warmup_steps"] = max(self.steps, 0) // 10
        self.schedule = parse_config(values, TrainingConfig, f"{self.name} options")  # checked like that of a training
        if self.prior_shots < 0:
            raise ValueError(f"prior_shots is {self.prior_shots}; expected 0 or more")

    def tune(
        self,
        network: Network,
        support: Support,
        batches: Callable[[Support, Augmentation, int], Batches],
        batch_norm: BatchNorm = "kept",
    ) -> Network:
        """Return a tuned copy of a network, in evaluation mode; the same for the same support set and seed.

        The network has `loss(**batch)` and stays as it is; gradients may be off. `batches` makes the steps' batches of
        the support set, its augmentation and the seed. The statistics of batch norms are `kept`, since those of one to
        five images are not those of the others, or `adapted` to the support images, as far as the weights move; an
        encoder's frozen ones stay.

        Raises:
            UserError: if it diverges.
        """
        n_shot = support.images.shape[1]
        with torch.inference_mode(False), torch.enable_grad():
            tuned = deepcopy(network).train()
            norms = [module for module in tuned.modules() if isinstance(module, nn.BatchNorm2d)]
            if batch_norm == "kept":
                for norm in norms:
                    norm.eval()
            trained = _chosen(tuned, self.parts)
            statistics = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
            moved = [*trained, *statistics]
            before = [tensor.detach().clone() for tensor in moved]
            self._optimise(tuned, trained, batches(support, Augmentation(self.augmentation), self.ingredients.seed))
            with torch.no_grad():
                for tensor, old in zip(moved, before, strict=True):
                    tensor.copy_(torch.lerp(old, tensor, n_shot / (n_shot + self.prior_shots)))
        if name := first_not_finite(tuned.state_dict()):
            raise UserError(
                f"tuning on {n_shot} images diverged: {name} is not finite; lower learning_rate, which is"
                f" {self.schedule.learning_rate:g}"
            )
        return tuned.eval()

    def _optimise(self, network: nn.Module, weights: list[nn.Parameter], batches: Batches) -> None:
        schedule = self.schedule
        optimizer = torch.optim.AdamW(weights, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        for step in range(schedule.n_steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * rate_factor(step, schedule)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.ingredients.seed * 1_000_003 + step)
                batch = {name: tensor.to(self.ingredients.device) for name, tensor in batches[step].items()}
                loss = network.loss(**batch)["loss"]  # type: ignore[operator]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def _chosen(network: nn.Module, parts: Parts) -> list[nn.Parameter]:
    if parts == "norm":
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)]
        chosen = [weight for module in norms for weight in module.parameters()]
        for weight in chosen:
            weight.requires_grad_(True)
        return chosen
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.requires_grad and (parts == "all" or not name.startswith("encoder."))
    ]


class AugmentedSupport:
    """The images of a support set, augmented anew at every step; they depend on seed, support set and step alone."""

    def __init__(self, support: Support, augmentation: Augmentation, seed: int) -> None:
        self.shape = support.masks.shape[:2]
        grey = support.images.flatten(0, 1)[:, 0]
        self.images = (grey * 255).round().to(torch.uint8).cpu().numpy()
        self.masks = support.masks.flatten(0, 1).to(torch.uint8).cpu().numpy()
        self.augmentation = augmentation
        content = sha256(self.images.tobytes() + self.masks.tobytes()).digest()
        self.seeds = [seed, int.from_bytes(content[:4], "big")]

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a step's images (n_way * n_shot, 3, H, W) in [0, 1] and masks (n_way * n_shot, H, W)."""
        states = np.random.SeedSequence([*self.seeds, step]).generate_state(len(self.images)) >> 1
        pairs = [
            augment_keeping_classes(self.augmentation, (image, mask), int(state))
            for image, mask, state in zip(self.images, self.masks, states, strict=True)
        ]
        images = image_tensor(np.stack([image for image, _ in pairs]))
        return images, torch.from_numpy(np.stack([mask for _, mask in pairs])).float()


class SupportImages(AugmentedSupport):
    """Batches for a supervised network: every support image, augmented; of its lesions only the place is known."""

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Return images (n, 3, H, W) in [0, 1], label maps (n, H, W) and labels (n,); lesions are of unknown kind."""
        images, masks = self.draw(step)
        unknown = LABEL_VALUES["unknown"]
        return {"images": images, "label_maps": masks.long() * unknown, "labels": torch.full((len(images),), unknown)}


class SupportEpisodes(AugmentedSupport):
    """Batches for a few-shot network: one shot of each way is the query, the others are the support, by turns.

    A single shot per way is both, under two augmentations.
    """

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Return one episode, as `PANet.loss` takes it."""
        n_way, n_shot = self.shape
        images, masks = (part.reshape(n_way, n_shot, *part.shape[1:]) for part in self.draw(2 * step))
        others = [shot for shot in range(n_shot) if n_shot == 1 or shot != step % n_shot]
        asked, truths = images[:, step % n_shot], masks[:, step % n_shot]
        if n_shot == 1:
            asked, truths = self.draw(2 * step + 1)
        ways = torch.arange(1, n_way + 1).view(-1, 1, 1)
        return {
            "support_images": images[:, others].unsqueeze(0),
            "support_masks": masks[:, others].unsqueeze(0),
            "query_images": asked.unsqueeze(0),
            "query_masks": (truths.long() * ways).unsqueeze(0),
        }
