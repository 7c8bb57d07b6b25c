"""What a measurement depends on: the machine, its load, and the code; nothing that names a host or a user."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
CPU_FACTS = Path("/proc/cpuinfo")
# Those that decide which kernels torch takes.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16", "i8mm")


def machine_facts() -> dict[str, Any]:
    """Describe the machine: its processor and memory, the threads of a run, the versions that matter."""
    processor, flags = processor_facts()
    return {
        "processor": processor,
        "cores": cores(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_facts() -> tuple[str, set[str]]:
    """Name the processor's model and its instruction sets, as far as the system tells."""
    text = CPU_FACTS.read_text(encoding="utf-8") if CPU_FACTS.exists() else ""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name") or platform.processor() or platform.machine(), flags


@contextmanager
def busy_processor() -> Iterator[None]:
    """Let another process compute all the time while the block runs."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


def load() -> float:
    """Tell how many processes wanted a core, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def commit() -> str:
    """Name the commit of the code, with a plus if files differ from it; "unknown" outside a checkout."""
    answers = []
    for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "*.py", "*.toml"]):
        done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=False)  # noqa: S603, S607
        if done.returncode:
            return "unknown"
        answers.append(done.stdout.strip())
    return answers[0] + ("+" if answers[1] else "")
