"""What a benchmark asks of every method on one target: support draws, or the random episodes of papers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from episodes.draws import SupportDraw, support_draws
from episodes.manifest import read_draws, write_draws, write_manifest
from episodes.records import Record
from episodes.sampler import EpisodeSampler, EpisodeSpec
from fewshot.benchmark.controls import control_masks
from fewshot.benchmark.evaluation import EncodedTarget, Task
from fewshot.config import BenchmarkConfig, ClassicConfig, Control
from fewshot.results.table import Cell


@dataclass(frozen=True, slots=True)
class SupportDraws:
    """The `support-draws` protocol on one target: each draw's first K images, and everything else as a query.

    Attributes:
        target: its name.
        records: of the target, by id.
        support_records: of the dataset that supports are drawn from, where it is another one; else empty.
        drawn: the draws.
        parameters: how they were drawn.
    """

    target: str
    records: Sequence[Record]
    support_records: Sequence[Record]
    drawn: Sequence[SupportDraw]
    parameters: Mapping[str, object]

    @property
    def draws(self) -> Sequence[int]:
        """Number of every draw."""
        return range(len(self.drawn))

    @property
    def without_support(self) -> Sequence[int]:
        """Without a support set, every draw would be the same."""
        return (-1,)

    def tasks(self, cell: Cell, target: EncodedTarget, control: Control) -> Iterator[tuple[int, Task]]:
        """One task: all queries of the cell's draw."""
        if cell.draw < 0:
            yield -1, Task((), tuple(target.rows))
            return
        draw = self.drawn[cell.draw]
        masks = control_masks(target.collection, draw.support, cell.shot, control)
        yield -1, Task(draw.support[: cell.shot], draw.queries, masks)

    def write(self, folder: Path) -> None:
        """Write `draws-TARGET.jsonl`."""
        self.write_draws(folder / f"draws-{self.target}.jsonl")

    def write_draws(self, path: Path, **parameters: object) -> None:
        """Write the draws, and how they came about."""
        records = [*self.support_records, *self.records]
        write_draws(path, self.drawn, records, overwrite=True, **self.parameters, **parameters)

    def read_draws(self, path: Path) -> "SupportDraws":
        """The same protocol with draws that `write_draws` wrote.

        Raises:
            ManifestError: if the file is damaged, or belongs to other records.
        """
        return replace(self, drawn=read_draws(path, [*self.support_records, *self.records]))


@dataclass(frozen=True, slots=True)
class Classic:
    """The protocol of papers on one target: several runs of random episodes.

    Fewer shots take an episode's first support images, and no shots its queries alone, so that all are asked the same.

    Attributes:
        target: its name.
        records: of the target.
        samplers: one for each run.
        settings: how many episodes.
    """

    target: str
    records: Sequence[Record]
    samplers: Sequence[EpisodeSampler]
    settings: ClassicConfig

    @property
    def draws(self) -> Sequence[int]:
        """Number of every run."""
        return range(len(self.samplers))

    @property
    def without_support(self) -> Sequence[int]:
        """The queries differ from run to run."""
        return self.draws

    def tasks(self, cell: Cell, target: EncodedTarget, control: Control) -> Iterator[tuple[int, Task]]:
        """One task for every episode of the run."""
        for spec in self._specs(cell.draw):
            (support,), (asked,) = spec.support, spec.classes
            masks = control_masks(target.collection, support, cell.shot, control) if cell.shot else None
            yield spec.index, Task(support[: cell.shot], spec.query, masks, asked)

    def _specs(self, run: int) -> Iterator[EpisodeSpec]:
        return self.samplers[run].specs(0, self.settings.episodes)

    def write(self, folder: Path) -> None:
        """Write `episodes-TARGET-runN.jsonl` for every run."""
        for run, sampler in enumerate(self.samplers):
            path = folder / f"episodes-{self.target}-run{run}.jsonl"
            write_manifest(path, self._specs(run), self.records, overwrite=True, **sampler.parameters)


TargetProtocol = SupportDraws | Classic
"""How one target is measured: which draws or runs there are, and what each of them asks."""


def protocol_of(
    config: BenchmarkConfig, target: str, records: Sequence[Record], support_records: Sequence[Record] = ()
) -> TargetProtocol:
    """The configured protocol on one target.

    Args:
        config: of the benchmark.
        target: its name.
        records: its records.
        support_records: of the dataset that supports are drawn from, if it is another.

    Raises:
        SamplingError: if there are too few patients.
    """
    if config.protocol == "classic":
        ways = [(name,) for name in config.classic.classes]
        depth, n_query = max(1, *config.shots), config.classic.n_query
        samplers = [
            EpisodeSampler(records, n_shot=depth, n_query=n_query, classes=ways, seed=config.seed + run)
            for run in range(config.classic.runs)
        ]
        return Classic(target, records, samplers, config.classic)
    parameters = {"n_draws": config.draws, "depth": config.draw_depth, "seed": config.seed}
    drawn = support_draws(support_records or records, **parameters)
    if support_records:
        everything = tuple(sorted(record.id for record in records))
        drawn = [SupportDraw(draw.index, draw.support, everything) for draw in drawn]
    return SupportDraws(target, records, support_records, drawn, {"seed": config.seed, "depth": config.draw_depth})
