"""What holds of every file that is read: it is read, or refused in a line that names it, in bounded time and memory."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, settings

from episodes.errors import UserError

SECONDS = 10.0  # of computing: a busy machine takes longer
PATIENCE = 120.0  # seconds by the clock, for what would wait for ever
MEMORY = 2**30
STATUS = Path("/proc/self/status")  # where memory is counted: on Linux alone
MOST_LINES = 21  # a configuration has a line for each wrong key, up to a number

# `FEWSHOT_FUZZ=100 pytest tests/fuzz` tries a hundred times as many files, and other ones each time.
EFFORT = int(os.environ.get("FEWSHOT_FUZZ", "1"))


def fuzzing(n_examples: int) -> settings:
    """How many damaged files a test tries; in the suite always the same ones."""
    return settings(
        max_examples=n_examples * EFFORT,
        deadline=None,
        derandomize=EFFORT == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class TooSlowError(Exception):
    """Reading took too long."""


def require_read_or_refused(read: Callable[[], object], *named: Path, elsewhere: tuple[str, ...] = ()) -> bool:
    """Check what reading a file comes to.

    Args:
        read: reads it.
        named: files of which the refusal has to name one.
        elsewhere: beginnings of other refusals that are right as well.

    Returns:
        Whether it was read.
    """
    try:
        with _limited():
            read()
    except UserError as error:
        lines = str(error).split("\n")
        assert len(lines) <= MOST_LINES, f"{len(lines)} lines"
        for line in lines:
            assert line.strip(), "an empty line"
            assert line.isprintable(), repr(line)
            assert len(line) < 2_000, f"{len(line)} characters: {line[:300]}"
            assert any(path.name in line for path in named) or line.startswith(elsewhere), line
        return False
    return True


@contextmanager
def _limited() -> Iterator[None]:
    """Raise where the block takes too long, or more memory than it may have."""
    with _bounded_time(), _bounded_memory() if STATUS.is_file() else nullcontext():
        yield


@contextmanager
def _bounded_time() -> Iterator[None]:
    clocks = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE)}
    earlier = {number: signal.signal(number, _too_slow) for number in clocks}
    for clock, seconds in clocks.values():
        signal.setitimer(clock, seconds)
    try:
        yield
    finally:
        for number, (clock, _) in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, earlier[number])


@contextmanager
def _bounded_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    # Twice as much may be asked for as may be used: allocators reserve more than they need.
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + 2 * MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    used = _memory("VmHWM") - before
    assert used <= MEMORY, f"took {used >> 20} MiB"


def _too_slow(signum: int, frame: FrameType | None) -> None:
    raise TooSlowError(f"longer than {SECONDS if signum == signal.SIGPROF else PATIENCE:g} seconds")


def _memory(what: str) -> int:
    """Bytes of this process, as Linux counts them."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {what} in /proc/self/status")
