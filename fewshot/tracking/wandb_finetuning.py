"""A fine-tuning in wandb."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewshot.config import Tracking
from fewshot.tracking.wandb_offline import say_what_waits
from fewshot.tracking.wandb_run import RunFacts, digest, wandb_run


def log_finetuning(tracking: Tracking, out: Path, checkpoint: Path, facts: Mapping[str, Any]) -> None:
    """Log what was fine-tuned on what; its files go beside the new checkpoint.

    Args:
        tracking: `local` does nothing.
        out: the new checkpoint.
        checkpoint: the one before.
        facts: of the new checkpoint, among them `finetuned`: the options and the support images' ids.
    """
    if tracking != "wandb":
        return
    config = {**facts["finetuned"], "checkpoint": str(checkpoint), "training": dict(facts)}
    run_facts = RunFacts(digest("finetune", out.stem, facts), out.stem, "finetune", "finetune", config)
    with wandb_run(out.parent, run_facts) as run:
        run.summarise({"n_support": len(facts["finetuned"]["support"])})
    if run.complete:
        say_what_waits(out.parent)
