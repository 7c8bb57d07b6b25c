"""What measures time and memory, stopped in a process, so that two runs differ in nothing."""

import sys
import time


def stop_clock() -> None:
    """Let every step of this process take no time, and no amount of memory that is known."""
    from fewshot.benchmark import evaluation as cell_evaluation

    time.perf_counter = _standing_still
    own = [module for name, module in sys.modules.items() if name.startswith(("episodes.", "baselines.", "fewshot."))]
    for module in own:
        if hasattr(module, "perf_counter"):  # taken by name
            module.perf_counter = _standing_still
    cell_evaluation.peak_bytes = lambda device: None  # type: ignore[attr-defined]


def _standing_still() -> float:
    return 0.0
