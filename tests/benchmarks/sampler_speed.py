"""Episode specs per second, beside the samplers of learn2learn and easyfsl, in one run on one core.

The records are 2,000 images of 3 datasets. Each sampler chooses one dataset, then a support and a query image
of it: 1-way 1-shot with 1 query, no pixels. Ours further keeps patients apart and makes each episode from its
index alone.
"""

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import partial
from itertools import count, islice
from statistics import median

from episodes.records import Record
from episodes.sampling.sampler import EpisodeSampler
from tests.benchmarks.measurements import Measurement, at_least, figure, interleaved, measured, not_measured, ratios
from tests.episodes.made_records import made_record

N_SPECS = 20_000
REPEATS = 15
SLOW = ("learn2learn", "easyfsl")  # are asked for a fiftieth of it
RECORDS = [
    made_record(f"dataset{image % 3}", str(image), "malignant" if image % 9 < 3 else "benign", str(image // 9))
    for image in range(2_000)
]


def measure() -> list[Measurement]:
    """Each sampler's rate, and how many times faster ours is."""
    streams: dict[str, Iterator[object]] = {"block": block_specs(1)}  # and those that are compared with it, first
    missing: dict[str, str] = {}
    for name, start in (
        ("fused", partial(learn2learn_specs, RECORDS, fused=True)),
        ("learn2learn", partial(learn2learn_specs, RECORDS, fused=False)),
        ("easyfsl", partial(easyfsl_specs, RECORDS)),
    ):
        try:
            streams[name] = start()
            next(streams[name])
        except ImportError as error:
            streams.pop(name, None)
            missing[name] = f"{error.name} is not installed"
    streams |= {"single": single_specs(), "shots": block_specs(5)}
    counts = {name: N_SPECS // 50 if name in SLOW else N_SPECS for name in streams}
    times = interleaved(*(partial(draw, streams[name], counts[name]) for name in streams), repeats=REPEATS)
    rates = {name: [counts[name] / second for second in seconds] for name, seconds in zip(streams, times, strict=True)}
    rows = [
        measured(
            "sampler.rate",
            "episode specifications a second, 1-shot, 2,000 records",
            rates["block"],
            "/s",
            wanted=at_least(20_000),
        ),
        measured("sampler.single", "... each by its index alone, sampler[i]", rates["single"], "/s"),
        measured("sampler.shots", "... 5-shot", rates["shots"], "/s"),
    ]
    for name, peer, wanted in (
        ("fused", "learn2learn's FusedNWaysKShots", at_least(1)),
        ("learn2learn", "learn2learn's NWays and KShots", at_least(1)),
        ("easyfsl", "easyfsl's TaskSampler", at_least(1)),
    ):
        key, what = f"sampler.{name}", f"... times as fast as {peer}"
        if name in missing:
            rows.append(not_measured(key, what, missing[name], wanted=wanted))
        else:
            note = f"that draws {figure(median(rates[name]))} a second"
            rows.append(measured(key, what, ratios(rates["block"], rates[name]), "x", wanted=wanted, note=note))
    return rows


def draw(specs: Iterator[object], count: int) -> None:
    drawn = sum(1 for _ in islice(specs, count))
    if drawn != count:
        raise AssertionError(f"{drawn} episodes instead of {count}")


def block_specs(n_shot: int) -> Iterator[object]:
    return iter(EpisodeSampler(RECORDS, n_shot=n_shot).specs(0, 10**9))


def single_specs() -> Iterator[object]:
    sampler = EpisodeSampler(RECORDS, n_shot=1)
    return (sampler[index] for index in count())


def dataset_numbers(records: list[Record]) -> list[int]:
    return [int(record.dataset.removeprefix("dataset")) for record in records]


def learn2learn_specs(records: list[Record], fused: bool) -> Iterator[object]:
    with redirect_stderr(io.StringIO()):  # gym prints a banner
        from learn2learn.data import MetaDataset, Taskset
        from learn2learn.data.transforms import FusedNWaysKShots, KShots, NWays
    from torch import arange, tensor
    from torch.utils.data import TensorDataset

    dataset = MetaDataset(TensorDataset(arange(len(records)), tensor(dataset_numbers(records))))
    transforms = [FusedNWaysKShots(dataset, n=1, k=2)] if fused else [NWays(dataset, n=1), KShots(dataset, k=2)]
    tasks = Taskset(dataset, transforms, num_tasks=-1)
    return (tasks.sample_task_description() for _ in count())


def easyfsl_specs(records: list[Record]) -> Iterator[object]:
    from easyfsl.samplers import TaskSampler
    from torch.utils.data import Sampler

    class Labels:
        def get_labels(self) -> list[int]:
            return dataset_numbers(records)

    class OldSampler(Sampler):
        """Takes the argument that easyfsl 1.5 still gives and torch's own sampler no longer takes."""

        def __init__(self, data_source: None) -> None:
            pass

    class CurrentTaskSampler(TaskSampler, OldSampler):
        pass

    return iter(CurrentTaskSampler(Labels(), n_way=1, n_shot=1, n_query=1, n_tasks=10**9))
