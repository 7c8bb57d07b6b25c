"""Fine-tune a checkpoint on a folder of annotated images, into another checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from episodes.datasets import read_dataset
from episodes.episode import load_support
from episodes.errors import UserError
from episodes.store import Collection, prepare_store
from fewshot.checkpoints import load_network, network_tensors, save_checkpoint
from fewshot.data import default_cache
from fewshot.devices import choose_device
from fewshot.methods import Ingredients, Sources
from fewshot.networks import checked_options
from fewshot.parsing import parse_overrides
from fewshot.progress import Reporter
from fewshot.supervised import FineTuned


def finetune_checkpoint(
    checkpoint: Path, support: Path, out: Path, overrides: Sequence[str], reporter: Reporter
) -> Path:
    """Fine-tune as the benchmark's `fine-tuned` row does, and save the result.

    Args:
        checkpoint: of a supervised model.
        support: folder with `images/` and `masks/` of equal names; every image must show a lesion.
        out: the checkpoint to write; it must not exist.
        overrides: `key=value` options of `FineTuned`.
        reporter: shows progress.

    Returns:
        The path written.

    Raises:
        UserError: if the output exists, the support cannot be used, or the model is not a supervised one.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; give another name, so that nothing is overwritten")
    options = checked_options(FineTuned, parse_overrides(overrides), "finetune", skip=1)
    network, loaded = load_network(checkpoint)
    if network.trains_on != "images":
        raise UserError(f"{checkpoint}: holds a {type(network).__name__}; only a supervised model is fine-tuned")
    device = choose_device("auto")
    size = int(loaded.facts["image_size"])
    store = prepare_store(read_dataset("folder", support), default_cache() / "stores", (size, size))
    empty = [record.id for record, labels in zip(store.records, store.label_maps, strict=True) if not labels.any()]
    if empty:
        raise UserError(f"{support}: {', '.join(empty)}: the mask is empty; outline the lesion or take the image out")
    collection = Collection([store])
    method = FineTuned(Ingredients(network.to(device), Sources(collection, store.records), device), **options)
    with reporter.step(f"finetune on {len(store.records)} images"):
        adapted = method.adapt(load_support(collection, [[record.id for record in store.records]]).to(device))
    facts = dict(loaded.facts) | {"finetuned": {**options, "support": [record.id for record in store.records]}}
    save_checkpoint(out, network_tensors(adapted), facts)
    return out
