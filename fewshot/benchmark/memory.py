"""The most memory that something holds while it runs."""

import re
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc(5), /proc/pid/clear_refs


def start_peak(device: torch.device) -> None:
    """Forget earlier peaks, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        try:
            CLEAR.write_text(RESET_PEAK)
        except OSError:  # a sandbox may forbid it: the peak is then that of the whole process so far
            return


def peak_bytes(device: torch.device) -> int | None:
    """The largest amount held since `start_peak`: on an accelerator its own memory, else the process's resident memory.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not STATUS.exists():
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), flags=re.MULTILINE)
    return None if found is None else int(found[1]) * 1024
