"""Episode specs per second, beside the samplers of learn2learn and easyfsl, in one run on one core.

The records are 2,000 images of 3 datasets. Each sampler chooses one dataset, then a support and a query image
of it: 1-way 1-shot with 1 query, no pixels. Ours further keeps patients apart and makes each episode from its
index alone.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from functools import partial
from itertools import count, islice
from time import perf_counter

from episodes.records import Record
from episodes.sampling.sampler import EpisodeSampler
from tests.episodes.made_records import made_record

N_SPECS = 20_000
RECORDS = [
    made_record(f"dataset{image % 3}", str(image), "malignant" if image % 9 < 3 else "benign", str(image // 9))
    for image in range(2_000)
]


def measure() -> list[str]:
    """Lines that say each sampler's rate, and how many times faster ours is."""
    ours = specs_per_second(partial(our_specs, RECORDS, n_shot=1))
    lines = [f"episode sampler, 1-shot: {ours:,.0f} specs/s (at least 20,000 wanted)"]
    lines.append(f"episode sampler, 5-shot: {specs_per_second(partial(our_specs, RECORDS, n_shot=5)):,.0f} specs/s")
    for name, specs in (
        ("learn2learn FusedNWaysKShots", partial(learn2learn_specs, fused=True)),
        ("learn2learn NWays + KShots", partial(learn2learn_specs, fused=False)),
        ("easyfsl TaskSampler", easyfsl_specs),
    ):
        try:
            rate = specs_per_second(partial(specs, RECORDS))
        except ImportError as error:
            lines.append(f"{name}: not installed ({error.name} is missing)")
        else:
            lines.append(f"{name}, 1-shot: {rate:,.0f} specs/s; ours is {ours / rate:.1f}x as fast")
    return lines


def specs_per_second(start: Callable[[], Iterator[object]], repeats: int = 3) -> float:
    """The best of a few runs: the one that other work on the machine disturbed least."""
    rates = []
    for _ in range(repeats):
        specs = start()
        next(specs)  # set-up is not counted
        begin = perf_counter()
        drawn = sum(1 for _ in islice(specs, N_SPECS))
        rates.append(drawn / (perf_counter() - begin))
    return max(rates)


def our_specs(records: list[Record], n_shot: int) -> Iterator[object]:
    sampler = EpisodeSampler(records, n_shot=n_shot)
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

    return iter(CurrentTaskSampler(Labels(), n_way=1, n_shot=1, n_query=1, n_tasks=N_SPECS + 1))
