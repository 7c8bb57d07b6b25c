"""The training loop, for episodic and supervised training alike: steps, their gradients, validation."""

import logging
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from episodes.errors import UserError
from fewshot.config.training import TrainingConfig, rate_factor
from fewshot.devices import ALONE, NotEnoughMemoryError, Processes, order_channels_last, within_memory
from fewshot.training.batches import Batch, HeldOut, batch_size, divided
from fewshot.training.learner import Learner, fill_learner, save_learner

logger = logging.getLogger(__name__)

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
    its last saved state as if nothing had happened. With several processes, process r of n takes batch `i * n + r` and
    gradients are averaged; process 0 validates, and decides for all. Where memory does not suffice, batches are
    computed in parts from there on, also after a resume (see `_fill_gradients`).

    Args:
        network: has `loss(**batch)`, which returns scalars, among them `loss`.
        batches: by step; dictionaries of tensors.
        config: how to train; `auto` is decided by now, see `choose_computing`.
        seed: of whatever is random within a step, such as dropout.
        device: where to train.
        state: file of the training state, continued if it is there; the caller removes it when the result is safe.
        facts: saved with the state.
        processes: this process's place among several.
        held_out: what to validate on, where `config.validation` asks for it.
        on_step: called by process 0 after each step with the number of steps done and the losses; after a validation,
            its loss is among them as `validation`, its other means as `validation_dice` and the like.

    Returns:
        The step whose weights the network has: the last, or the one that validated best.

    Raises:
        UserError: if a loss is not finite, or memory does not suffice for a single item. The state stays as last saved.
    """
    if (config.validation is None) != (held_out is None):
        raise ValueError("held_out goes with config.validation; give both or neither")
    network.to(device).train()
    if config.channels_last:
        order_channels_last(network)
    learner = Learner.of(network, config, device, processes)
    done = fill_learner(learner, state)
    computing, began = 0.0, perf_counter()
    for batch in _loaded(batches, config, done, processes):
        computing -= perf_counter()
        values = _step(learner, config, batch, done, seed)
        done += 1
        values |= _validate(learner, config, held_out, done)
        patience = math.inf if config.validation is None else config.validation.patience or math.inf
        finished = done == config.n_steps or learner.best.waited >= patience
        if processes.rank == 0:
            if on_step is not None:
                on_step(done, values)
            if done % config.save_every == 0 and not finished:
                save_learner(state, learner, done, facts)
        computing += perf_counter()
        if finished:
            break
    if processes.rank == 0:
        share = computing / max(1e-9, perf_counter() - began)  # a clock may stand
        logger.info("train: reading and augmenting took %.0f %% of the time", 100 * (1 - share))
    learner.finish()
    return learner.best.step or done


def _step(learner: Learner, config: TrainingConfig, batch: Batch, step: int, seed: int) -> dict[str, float]:
    """Change the weights once; return the losses before that, without scores that this batch has none of."""
    optimizer, scaler = learner.optimizer, learner.scaler
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * rate_factor(step, config)
    values = _fill_gradients(learner, batch, step, seed=seed * 1_000_003 + step)
    if _in_any_process(learner, not math.isfinite(values["loss"])):
        raise _not_finite(f"the loss of step {step + 1} is {values['loss']}")
    if config.clip_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(learner.trainable, config.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    if learner.average is not None:
        learner.average.update_parameters(learner.network)
    return values


def _fill_gradients(learner: Learner, batch: Batch, step: int, seed: int) -> dict[str, float]:
    """Compute the gradients of one step's loss, the mean over all processes; return this process's losses and scores.

    A batch that does not fit in memory is computed in two parts, one after the other, then in four, and so on, as all
    later ones are. Each part's loss counts by its share of the items, so that the gradients are the whole batch's, but
    for rounding, where a loss is a mean over items. It is not quite so where items of a batch meet: batch norm takes
    its statistics from each part (and updates its running ones with each), a Dice loss over all pixels of a batch and
    means over those items alone that have a label are taken within each part; and dropout draws other numbers. The
    result still depends on nothing but the seed and the numbers of parts, which the training's state holds.

    Gradients are averaged over processes when all have computed theirs, not meanwhile: where one ran out of memory
    halfway, the others would wait for it for ever. So they all know, and all divide their batches alike.
    """
    buffers = [buffer.clone() for buffer in learner.network.buffers()]
    while True:
        attempt = partial(_accumulate, learner, batch, seed)
        try:
            values = within_memory(attempt, f"{learner.device}, step {step + 1}")
        except NotEnoughMemoryError:
            values = {}
        if not _in_any_process(learner, not values):
            break
        # Undo what the failed attempt has left: running statistics, and gradients.
        learner.optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(learner.network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        learner.parts.double("training", batch_size(batch), step)
    if learner.processes.count > 1:
        _average_gradients(learner.trainable, learner.processes.count)
    return values


def _accumulate(learner: Learner, batch: Batch, seed: int) -> dict[str, float]:
    """Add up the gradients of a batch's parts."""
    learner.optimizer.zero_grad(set_to_none=True)
    count, means = batch_size(batch), _Means()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in divided(batch, learner.parts.training):
            with learner.autocast:
                losses: dict[str, Tensor] = learner.network.loss(  # type: ignore[operator]
                    **{name: tensor.to(learner.device) for name, tensor in part.items()}
                )
            share = batch_size(part) / count
            learner.scaler.scale(losses["loss"] * share).backward()  # type: ignore[no-untyped-call]
            means.add({name: float(value.detach()) for name, value in losses.items()}, share)
    return means.values()


def _average_gradients(parameters: Sequence[nn.Parameter], n_processes: int) -> None:
    """Replace every process's gradients by their mean; where a process has none, it counts as zero."""
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in parameters]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= n_processes
    pieces = torch.split(together, [gradient.numel() for gradient in gradients])
    for weight, gradient, piece in zip(parameters, gradients, pieces, strict=True):
        weight.grad = gradient.copy_(piece.view_as(gradient))


def _in_any_process(learner: Learner, flag: bool) -> bool:
    """Tell whether a flag is set in one of the processes, so that all do the same and none waits for ever."""
    if learner.processes.count == 1:
        return flag
    flags = torch.tensor(float(flag), device=learner.device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags)


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
    """Average a network's own losses and scores in evaluation mode over episodes or images; its mode is restored.

    They are always the same for the same weights. A score that is NaN for a batch is left out of its mean; one that is
    so for every batch is not given.
    """
    means, done, training = _Means(), 0, network.training
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


class _Means:
    """Weighted means of losses and scores over batches or parts; a score that is NaN in one is left out of its mean.

    A loss is never left out: where one is not finite, its mean is not.

    >>> means = _Means()
    >>> means.add({"loss": 1.0, "dice": float("nan")}, 0.5)
    >>> means.add({"loss": 2.0, "dice": 0.7}, 0.5)
    >>> means.values()
    {'loss': 1.5, 'dice': 0.7}
    """

    def __init__(self) -> None:
        self._totals: defaultdict[str, float] = defaultdict(float)
        self._weights: defaultdict[str, float] = defaultdict(float)

    def add(self, values: dict[str, float], weight: float) -> None:
        """Take the values of one batch or part."""
        for name, value in values.items():
            if name == "loss" or math.isfinite(value):
                self._totals[name] += weight * value
                self._weights[name] += weight

    def values(self) -> dict[str, float]:
        """Return the means, without those that no part has."""
        return {name: total / self._weights[name] for name, total in self._totals.items()}


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


def _loaded(
    batches: Dataset[dict[str, Tensor]], config: TrainingConfig, done: int, processes: Processes
) -> Iterator[dict[str, Tensor]]:
    mine = [step * processes.count + processes.rank for step in range(done, config.n_steps)]
    # batch_size=None: each item is a whole batch already. Without a generator, the global one would be drawn from.
    loader = DataLoader(
        _Complaining(batches),
        batch_size=None,
        sampler=mine,
        num_workers=config.workers,
        generator=torch.Generator(),
        worker_init_fn=_silence_worker,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _Complaining(Dataset[dict[str, Tensor] | UserError]):
    """Batches, or the error in place of one: a worker's would otherwise arrive wrapped in its traceback."""

    def __init__(self, batches: Dataset[dict[str, Tensor]]) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> dict[str, Tensor] | UserError:
        try:
            return self.batches[step]
        except UserError as error:
            return error


def _silence_worker(_worker: int) -> None:
    """Let a worker that hands over a batch while its training is interrupted say nothing: the training does.

    What goes wrong in making a batch does not pass here: it is raised in the training.
    """
    sys.excepthook = lambda *_: None
