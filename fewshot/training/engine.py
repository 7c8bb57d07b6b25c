"""The one training loop, for episodic and supervised training alike."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from episodes.errors import UserError
from fewshot.config.training import TrainingConfig, rate_factor
from fewshot.devices import ALONE, NotEnoughMemoryError, Processes, within_memory
from fewshot.training.batches import Batch, HeldOut, batch_size, divided
from fewshot.training.gradients import Means, fill_gradients, in_any_process
from fewshot.training.learner import Learner, fill_learner, save_learner

OnStep = Callable[[int, Mapping[str, float]], None]


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
    held_out: HeldOut | None = None,
    on_step: OnStep | None = None,
) -> int:
    """Train a network in place, with Adam or AdamW, a linear warm-up and a cosine decay.

    Step i's batch is `batches[i]`, so the number of data workers changes nothing, and a killed training goes on from
    its last saved state as if nothing had happened. With several processes, process r of n takes batch
    `i * n + r` and gradients are averaged; process 0 validates, and decides for all. Where memory does not suffice,
    batches are computed in parts from there on, also after a resume (see `fewshot.training.gradients`).

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
        held_out: what to validate on, where `config.validation` asks for it.
        on_step: called by process 0 after each step with the number of steps done and the losses; after a
            validation, its loss is among them as `validation`, its other means as `validation_dice` and the like.

    Returns:
        The step whose weights the network has: the last, or the one that validated best.

    Raises:
        UserError: if a loss is not finite, or memory does not suffice for a single item of a batch. The state stays as
            it was last saved.
    """
    if (config.validation is None) != (held_out is None):
        raise ValueError("held_out goes with config.validation; give both or neither")
    network.to(device).train()
    if config.channels_last:
        _order_channels_last(network)
    learner = Learner.of(network, config, device, processes)
    done = fill_learner(learner, state)
    for batch in _loaded(batches, config, done, processes):
        values = _step(learner, config, batch, done, seed)
        done += 1
        values |= _validate(learner, config, held_out, done)
        finished = done == config.n_steps or _out_of_patience(learner, config)
        if processes.rank == 0:
            if on_step is not None:
                on_step(done, values)
            if done % config.save_every == 0 and not finished:
                save_learner(state, learner, done, facts)
        if finished:
            break
    learner.finish()
    return learner.best.step or done


def _step(learner: Learner, config: TrainingConfig, batch: Batch, step: int, seed: int) -> dict[str, float]:
    """Change the weights once; return the losses before that, without scores that this batch has none of."""
    optimizer, scaler = learner.optimizer, learner.scaler
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * rate_factor(step, config)
    values = fill_gradients(learner, batch, step, seed=seed * 1_000_003 + step)
    if in_any_process(learner, not math.isfinite(values["loss"])):
        raise _not_finite(f"the loss of step {step + 1} is {values['loss']}")
    if config.clip_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(learner.trainable, config.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    if learner.average is not None:
        learner.average.update_parameters(learner.network)
    return values


def _validate(learner: Learner, config: TrainingConfig, held_out: HeldOut | None, done: int) -> dict[str, float]:
    """Compute the validation loss and scores, after those steps that have them, and keep the best weights."""
    validation = config.validation
    if validation is None or held_out is None or (done % validation.every and done != config.n_steps):
        return {}
    values = _validation_within_memory(learner, held_out, done) if learner.processes.rank == 0 else {"loss": 0.0}
    loss = _of_first_process(learner, values.pop("loss"))
    if not math.isfinite(loss):
        raise _not_finite(f"the validation loss after step {done} is {loss}")
    learner.best.offer(done, loss, learner.result)
    return {"validation": loss} | {f"validation_{name}": value for name, value in values.items()}


def _validation_within_memory(learner: Learner, held_out: HeldOut, done: int) -> dict[str, float]:
    """Compute `validation_means`, in as many parts as memory asks for."""
    while True:
        batches = (part for batch in held_out for part in divided(batch, learner.parts.validation))
        compute = partial(validation_means, learner.result, batches, learner.device, learner.autocast)
        try:
            return within_memory(compute, f"{learner.device}, validation")
        except NotEnoughMemoryError:
            learner.parts.double("validation", held_out.batch_size, done - 1)


def validation_means(
    network: nn.Module, batches: Iterable[Batch], device: torch.device, autocast: torch.autocast
) -> dict[str, float]:
    """Average a network's own losses and scores in evaluation mode over episodes or images.

    They are always the same for the same weights. A score that is NaN for a batch is left out of its mean; one that is
    so for every batch is not given.

    Args:
        network: has `loss(**batch)`; it is left in the mode that it is in.
        batches: as its `loss` takes them.
        device: the network's.
        autocast: the precision to compute in.
    """
    means, done, training = Means(), 0, network.training
    network.eval()
    try:
        for batch in batches:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), autocast:
                torch.manual_seed(done)
                losses: dict[str, Tensor] = network.loss(**{k: v.to(device) for k, v in batch.items()})  # type: ignore[operator]
            done += batch_size(batch)
            means.add({name: float(value) for name, value in losses.items()}, batch_size(batch))
    finally:
        network.train(training)
    return means.values()


def _out_of_patience(learner: Learner, config: TrainingConfig) -> bool:
    patience = None if config.validation is None else config.validation.patience
    return patience is not None and learner.best.waited >= patience


def _not_finite(what: str) -> UserError:
    return UserError(
        f"{what}: training stopped, its last saved state is left; under another name, try a lower learning_rate,"
        " clip_norm, or precision float32"
    )


def _of_first_process(learner: Learner, value: float) -> float:
    if learner.processes.count == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=learner.device)
    torch.distributed.broadcast(shared, 0)
    return float(shared)


def _order_channels_last(network: nn.Module) -> None:
    """Store the weights of 2D convolutions channel by channel; they then compute, and give, feature maps likewise.

    `network.to(memory_format=...)` does the same, but fails for networks that have 3D convolutions as well.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _loaded(
    batches: Dataset[dict[str, Tensor]], config: TrainingConfig, done: int, processes: Processes
) -> Iterator[dict[str, Tensor]]:
    mine = [step * processes.count + processes.rank for step in range(done, config.n_steps)]
    # batch_size=None: each item is a whole batch already. Without a generator, the global one would be drawn from.
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=mine,
        num_workers=config.workers,
        generator=torch.Generator(),
        worker_init_fn=_silence_worker,
    )
    return iter(loader)


def _silence_worker(_worker: int) -> None:
    """Let a worker that hands over a batch while its training is interrupted say nothing: the training does.

    What goes wrong in making a batch does not pass here: it is raised in the training.
    """
    sys.excepthook = lambda *_: None
