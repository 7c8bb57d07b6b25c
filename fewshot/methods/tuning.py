"""Test-time tuning: a copy of a network trained on for a few steps, on the support set alone."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from episodes.augment.transforms import Augmentation, Strength
from episodes.records import LABEL_VALUES
from episodes.sampling.episode import Support, augment_keeping_classes, image_tensor
from fewshot.config.parsing import parse_config
from fewshot.config.training import TrainingConfig, rate_factor

Network = TypeVar("Network", bound=nn.Module)
Parts = Literal["all", "decoder", "norm"]
BatchNorm = Literal["kept", "adapted"]


class Batches(Protocol):
    """Step i's batch, as the network's `loss` takes it."""

    def __getitem__(self, step: int) -> dict[str, Tensor]: ...


def tuning_schedule(
    origin: str, *, steps: int, learning_rate: float, weight_decay: float, augmentation: Strength
) -> TrainingConfig:
    """The schedule of a tuning, checked like that of a training; a tenth of the steps is warm-up.

    Raises:
        ConfigError: names `origin` and the value that is out of range.
    """
    values = {
        "steps": steps,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup_steps": max(steps, 0) // 10,
        "augmentation": augmentation,
    }
    return parse_config(values, TrainingConfig, origin)


def tune(
    network: Network,
    batches: Batches,
    schedule: TrainingConfig,
    *,
    parts: Parts,
    share: float,
    device: torch.device,
    seed: int = 0,
    batch_norm: BatchNorm = "kept",
) -> Network:
    """A tuned copy of a network, in evaluation mode; the same for the same batches and seed.

    Args:
        network: has `loss(**batch)`; it stays as it is.
        batches: by step.
        schedule: steps, learning rate and weight decay of AdamW; warm-up and cosine decay as in training.
        parts: what is tuned: `all`, the `decoder` (everything but the encoder), or the `norm` layers' scales and
            offsets.
        share: how far to go from the old weights (0) to the tuned ones (1), in a straight line (WiSE-FT, Wortsman et
            al., CVPR 2022): few images tune a network to themselves, and a part of the way keeps what they share with
            others.
        device: the network's.
        seed: of whatever is random within a step.
        batch_norm: the statistics of batch norms are `kept`, since those of one to five images are not those of the
            others, or `adapted` to the support images, as far as `share` goes; an encoder's frozen ones stay.
    """
    tuned = deepcopy(network).train()
    norms = [module for module in tuned.modules() if isinstance(module, nn.BatchNorm2d)]
    if batch_norm == "kept":
        for norm in norms:
            norm.eval()
    trained = _chosen(tuned, parts)
    statistics = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
    moved = [*trained, *statistics]
    before = [tensor.detach().clone() for tensor in moved]
    optimizer = torch.optim.AdamW(trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    for step in range(schedule.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * rate_factor(step, schedule)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 1_000_003 + step)
            batch = {name: tensor.to(device) for name, tensor in batches[step].items()}
            loss = tuned.loss(**batch)["loss"]  # type: ignore[operator]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for tensor, old in zip(moved, before, strict=True):
            tensor.copy_(torch.lerp(old, tensor, share))
    return tuned.eval()


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


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a method tunes its network on a support set.

    Attributes:
        schedule: of the optimiser, and the augmentation.
        parts: what is tuned.
        prior_shots: how many support images the trained weights are worth; 0 or more.
        device: the network's.
        seed: of the augmentation, and of whatever is random within a step.
        batch_norm: as in `tune`.

    Raises:
        ValueError: if `prior_shots` is negative.
    """

    schedule: TrainingConfig
    parts: Parts
    prior_shots: float
    device: torch.device
    seed: int
    batch_norm: BatchNorm = "kept"

    def __post_init__(self) -> None:
        if self.prior_shots < 0:
            raise ValueError(f"prior_shots is {self.prior_shots}; expected 0 or more")

    def tuned(
        self, network: Network, support: Support, batches: Callable[[Support, Augmentation, int], Batches]
    ) -> Network:
        """A copy of the network, tuned on batches of the support set; also where gradients are off."""
        with torch.inference_mode(False), torch.enable_grad():
            return tune(
                network,
                batches(support, Augmentation(self.schedule.augmentation), self.seed),
                self.schedule,
                parts=self.parts,
                share=shrunk_share(support.images.shape[1], self.prior_shots),
                device=self.device,
                seed=self.seed,
                batch_norm=self.batch_norm,
            )


def shrunk_share(n_shot: int, prior_shots: float) -> float:
    """How far K shots may move weights that are worth `prior_shots` shots: K / (K + prior_shots).

    >>> shrunk_share(1, 2.0), shrunk_share(6, 2.0), shrunk_share(1, 0.0)
    (0.3333333333333333, 0.75, 1.0)
    """
    return n_shot / (n_shot + prior_shots)


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
        """Images (n_way * n_shot, 3, H, W) in [0, 1] and masks (n_way * n_shot, H, W)."""
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
        """Images (n, 3, H, W) in [0, 1], label maps (n, H, W) of lesions of unknown kind, and labels (n,) unknown."""
        images, masks = self.draw(step)
        unknown = LABEL_VALUES["unknown"]
        return {
            "images": images,
            "label_maps": masks.long() * unknown,
            "labels": torch.full((len(images),), unknown),
        }


class SupportEpisodes(AugmentedSupport):
    """Batches for a few-shot network: one shot of each way is the query, the others are the support, by turns.

    A single shot per way is both, under two augmentations.
    """

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """One episode, as `PANet.loss` takes it."""
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
