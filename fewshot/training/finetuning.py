"""Fine-tune a checkpoint on a folder of annotated images, into another checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from episodes.errors import UserError
from episodes.io.files import require_free
from episodes.io.locks import exclusive_lock
from fewshot.checkpoints import load_network, network_tensors, save_checkpoint
from fewshot.config.parsing import parse_overrides
from fewshot.devices import choose_device, within_memory
from fewshot.inference.loading import without_sources
from fewshot.inference.support import load_support_folder, support_hashes
from fewshot.methods.supervised import FineTuned
from fewshot.networks import checked_options
from fewshot.terminal import Reporter


def finetune_checkpoint(
    checkpoint: Path,
    support: Path,
    out: Path,
    overrides: Sequence[str],
    reporter: Reporter,
    shots: int | None = None,
    listener: Callable[[Path, Mapping[str, Any]], None] | None = None,
    trust: Sequence[str] = (),
    *,
    invert_masks: bool = False,
) -> Path:
    """Fine-tune as the benchmark's `fine-tuned` row does, and save the result.

    The support folder holds `images/` and `masks/` of equal names, and every image shows a lesion; `shots` of them are
    taken, the first by name, or all. `overrides` are `key=value` options of `FineTuned`. `out` is returned; the
    listener is told of it and its facts once it is written.

    Raises:
        UserError: if the output exists or another process is writing it, the support cannot be used, or the model is
            not a supervised one.
    """
    require_free(out)
    options = checked_options(FineTuned, parse_overrides(overrides), "finetune", skip=1)
    network, loaded = load_network(checkpoint, trust)
    if network.trains_on != "images":
        raise UserError(f"{checkpoint}: holds a {type(network).__name__}; only a supervised model is fine-tuned")
    device = choose_device("auto")
    size = int(loaded.facts["image_size"])
    annotated = load_support_folder(support, size, shots, invert_masks=invert_masks).to(device)
    method = FineTuned(without_sources(network, device), **options)
    facts = dict(loaded.facts) | {"finetuned": {**options, "hashes": support_hashes(annotated)}}
    with exclusive_lock(out):
        require_free(out)  # nor has another process written it meanwhile
        with reporter.step(f"finetune on {annotated.images.shape[1]} images"):
            adapted = within_memory(partial(method.adapt, annotated), f"{device}, fine-tuning")
        save_checkpoint(out, network_tensors(adapted), facts)
        if listener is not None:
            listener(out, facts)
    return out
