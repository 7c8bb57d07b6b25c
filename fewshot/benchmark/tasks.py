"""The tasks of each cell: support sets, controls and queries, by protocol."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from episodes.errors import UserError
from episodes.records import Record
from episodes.sampling.draws import SupportDraw, support_draws
from episodes.sampling.episode import Support, load_support
from episodes.sampling.manifest import DRAWS, EPISODES
from episodes.sampling.sampler import EpisodeSampler, EpisodeSpec
from episodes.sampling.selection import By, choose
from episodes.storage.store import Collection
from fewshot.config.benchmark import BenchmarkConfig, ClassicConfig, Control, MethodConfig
from fewshot.config.parsing import ConfigError
from fewshot.devices import Batching
from fewshot.inference.out_of_distribution import AnyEncoder, describe_images, find_encoder
from fewshot.inference.target import EncodedTarget, Task
from fewshot.methods.contract import Method
from fewshot.results.rows import Cell


def control_masks(collection: Collection, draw: Sequence[str], n_shot: int, control: Control) -> Tensor | None:
    """Make the masks that a control shows in place of those of a draw's first `n_shot` records.

    `emptied` gives masks without a lesion; `swapped` the mask of the next record of the draw, and of the first one for
    the last, so that no image has its own and a single shot can be swapped as well. The draw is ordered, its records of
    different images, as many as `n_shot` or more.

    Returns:
        (1, n_shot, H, W), 0 or 1; None where nothing is controlled.

    Raises:
        ValueError: if there is no other record to swap with.
    """
    if control == "none":
        return None
    if control == "emptied":
        return torch.zeros_like(load_support(collection, [draw[:n_shot]]).masks)
    if len(draw) < 2:
        raise ValueError("swapped masks need a draw of at least two records")
    following = [*draw[1:], draw[0]]
    return load_support(collection, [following[:n_shot]]).masks


def controlled_row(methods: Mapping[str, MethodConfig], row: str) -> str | None:
    """Find the row that a control is to be compared with, the same in all but the control; None without one."""
    if methods[row].control == "none":
        return None
    same = methods[row].model_copy(update={"control": "none"})
    return next((name for name, method in methods.items() if method == same), None)


def require_emptied_taken(method: Method, support: Support) -> None:
    """Empty a support set's masks and adapt to it: any will do to see whether a method refuses.

    Raises:
        ConfigError: if it does.
    """
    emptied = replace(support, masks=torch.zeros_like(support.masks))
    try:
        with torch.inference_mode():
            method.adapt(emptied)
    except (ValueError, UserError) as error:
        raise ConfigError(f"control: emptied masks are refused ({error}); use `swapped`") from error


@dataclass(frozen=True, slots=True)
class SupportDraws:
    """The `support-draws` protocol on one target: each draw's first K images, and everything else as a query.

    `support_records` are of the dataset that supports are drawn from, where it is another one; `parameters` say how the
    draws were made.
    """

    target: str
    records: Sequence[Record]
    support_records: Sequence[Record]
    drawn: Sequence[SupportDraw]
    parameters: Mapping[str, object]

    @property
    def draws(self) -> Sequence[int]:
        """Return the number of every draw."""
        return range(len(self.drawn))

    @property
    def without_support(self) -> Sequence[int]:
        """Return -1 alone: without a support set, every draw would be the same."""
        return (-1,)

    def tasks(self, cell: Cell, target: EncodedTarget, control: Control) -> Iterator[tuple[int, Task]]:
        """Yield one task: all queries of the cell's draw."""
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
        DRAWS.write(path, self.drawn, records, overwrite=True, **self.parameters, **parameters)

    def read_draws(self, path: Path) -> "SupportDraws":
        """Return the same protocol with draws that `write_draws` wrote.

        Raises:
            ManifestError: if the file is damaged, or belongs to other records.
        """
        return replace(self, drawn=DRAWS.read(path, [*self.support_records, *self.records]))


@dataclass(frozen=True, slots=True)
class Classic:
    """The protocol of papers on one target: several runs of random episodes, each with a sampler of its own.

    Fewer shots take an episode's first support images, and no shots its queries alone, so that all are asked the same.
    """

    target: str
    records: Sequence[Record]
    samplers: Sequence[EpisodeSampler]
    settings: ClassicConfig

    @property
    def draws(self) -> Sequence[int]:
        """Return the number of every run."""
        return range(len(self.samplers))

    @property
    def without_support(self) -> Sequence[int]:
        """Return the number of every run, since the queries differ from run to run."""
        return self.draws

    def tasks(self, cell: Cell, target: EncodedTarget, control: Control) -> Iterator[tuple[int, Task]]:
        """Yield one task for every episode of the run."""
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
            EPISODES.write(path, self._specs(run), self.records, overwrite=True, **sampler.parameters)


TargetProtocol = SupportDraws | Classic
"""The measurement of one target: which draws or runs there are, and what each of them asks."""


def protocol_of(
    config: BenchmarkConfig, target: str, records: Sequence[Record], support_records: Sequence[Record] = ()
) -> TargetProtocol:
    """Build the configured protocol on one target; another dataset's `support_records` replace its own as supports.

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


DEFAULT_BY: By = "k-medoids"


def selected_path(folder: Path, cell: Cell) -> Path:
    """Return where a run keeps the draws of a row that selects, each in the order of the selection."""
    fold = "" if cell.fold < 0 else f"-fold{cell.fold}"
    return folder / "selected" / cell.target / f"{cell.method}-seed{cell.seed}{fold}.jsonl"


def selected_protocol(
    protocol: SupportDraws, path: Path, network: nn.Module, collection: Collection, by: By, device: torch.device
) -> SupportDraws:
    """Order every draw's support images of a protocol as the network's encoder selects them; the queries stay.

    They are selected once, on the device that holds the network, and written to the file `path`, from which a run that
    goes on takes them.

    Raises:
        ManifestError: if the file is damaged, or belongs to other records.
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """
    if not path.is_file():
        encoder = require_encoder(network)
        drawn = [select_support(draw, encoder, collection, by, device) for draw in protocol.drawn]
        replace(protocol, drawn=drawn).write_draws(path, selected_by=by)
    return protocol.read_draws(path)


def select_support(
    draw: SupportDraw, encoder: AnyEncoder, collection: Collection, by: By, device: torch.device
) -> SupportDraw:
    """Order a draw's support images by `choose`: the first K are the K that are selected."""
    images = [collection.image(record_id) for record_id in draw.support]
    features = describe_images(encoder, images, Batching(device))
    order: Sequence[int] = choose(features, draw.support, len(draw.support), by)  # each is of another patient
    return replace(draw, support=tuple(draw.support[place] for place in order))


def require_encoder(network: nn.Module) -> AnyEncoder:
    """Return the network's encoder.

    Raises:
        ConfigError: if it has none of ours.
    """
    encoder = find_encoder(network)
    if encoder is None:
        raise ConfigError(f"support: {type(network).__name__} has no encoder of this toolkit's to select images by")
    return encoder
