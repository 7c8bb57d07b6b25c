"""The one training loop, for episodic and supervised training alike."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from fewshot.checkpoints import (
    fill_network,
    fill_optimizer,
    load_checkpoint,
    network_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from fewshot.config import TrainingConfig
from fewshot.devices import ALONE, Processes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

OnStep = Callable[[int, Mapping[str, float]], None]


class _Loss(nn.Module):
    """The network's loss as a forward pass, which is where data parallelism reduces gradients."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.network.loss(**batch)  # type: ignore[operator]
        return losses


def fit(
    network: nn.Module,
    batches: Dataset[dict[str, Tensor]],
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
    state: Path,
    facts: Mapping[str, Any],
    processes: Processes = ALONE,
    on_step: OnStep | None = None,
) -> None:
    """Train a network in place, with AdamW, a linear warm-up and a cosine decay to zero.

    Step i's batch is `batches[i]`, so the number of data workers changes nothing, and a killed training goes on from
    its last saved state as if nothing had happened. With several processes, process r of n takes batch
    `i * n + r` and gradients are averaged.

    Args:
        network: has `loss(**batch)`, which returns scalars, among them `loss`.
        batches: by step; dictionaries of tensors.
        config: how to train.
        seed: of whatever is random within a step, such as dropout.
        device: where to train.
        state: file of the training state, removed by the caller when the result is safe. If it is there already,
            training continues from it.
        facts: saved with the state.
        processes: this process's place among several.
        on_step: called by process 0 after each step with the number of steps done and the losses.
    """
    network.to(device).train()
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    done = _resume(network, optimizer, scaler, state)
    objective: nn.Module = _Loss(network)
    if processes.count > 1:
        objective = DistributedDataParallel(objective)
    autocast = torch.autocast(device.type, DTYPES[config.precision], enabled=config.precision != "float32")

    for step, batch in enumerate(_loaded(batches, config, done, processes), start=done):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_factor(step, config)
        with torch.random.fork_rng(devices=[]), autocast:
            torch.manual_seed(seed * 1_000_003 + step)
            losses = objective({name: tensor.to(device) for name, tensor in batch.items()})
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(losses["loss"]).backward()
        scaler.step(optimizer)
        scaler.update()
        if processes.rank == 0:
            if on_step is not None:
                on_step(step + 1, {name: float(value.detach()) for name, value in losses.items()})
            if (step + 1) % config.save_every == 0 and step + 1 < config.steps:
                tensors = network_tensors(network) | optimizer_tensors(optimizer)
                progress = {"steps_done": step + 1, "scaler": scaler.state_dict()}
                save_checkpoint(state, tensors, dict(facts) | progress)
    network.eval()


def rate_factor(step: int, config: TrainingConfig) -> float:
    """The learning rate at a step as a share of the highest: linear warm-up, then cosine to zero.

    >>> config = TrainingConfig(steps=100, warmup_steps=10)
    >>> [round(rate_factor(step, config), 2) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = min(config.warmup_steps, config.steps - 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (config.steps - warmup)))


def _resume(network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, state: Path) -> int:
    if not state.is_file():
        return 0
    checkpoint = load_checkpoint(state)
    fill_network(network, checkpoint, str(state))
    fill_optimizer(optimizer, checkpoint)
    scaler.load_state_dict(checkpoint.facts["scaler"])
    return int(checkpoint.facts["steps_done"])


def _loaded(
    batches: Dataset[dict[str, Tensor]], config: TrainingConfig, done: int, processes: Processes
) -> Iterator[dict[str, Tensor]]:
    mine = [step * processes.count + processes.rank for step in range(done, config.steps)]
    # batch_size=None: each item is a whole batch already. Without a generator, the global one would be drawn from.
    loader = DataLoader(batches, batch_size=None, sampler=mine, num_workers=config.workers, generator=torch.Generator())
    return iter(loader)
