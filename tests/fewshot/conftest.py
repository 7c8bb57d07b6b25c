"""Fixtures of the model side: networks that have learned a little."""

from dataclasses import dataclass
from typing import Any

import pytest
from torch import nn

from episodes.episode import Support, load_support
from episodes.store import Collection
from tests.fewshot.small_networks import training


@dataclass(frozen=True)
class Trained:
    """A network, and its loss at every step of its training."""

    network: nn.Module
    losses: list[float]


def trained(
    name: str, sources: Collection, folder: pytest.TempPathFactory, steps: int, learning_rate: float, **changes: Any
) -> Trained:
    losses: list[float] = []
    schedule = {"steps": steps, "batch_size": 4, "learning_rate": learning_rate, "warmup_steps": 3, **changes}
    case = training(name, sources, augmentation="none", **schedule)
    case.run(folder.mktemp(name) / "state", on_step=lambda _, values: losses.append(values["loss"]))
    return Trained(case.network, losses)


@pytest.fixture(scope="session")
def trained_panet(linear_phantoms: Collection, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """After a second or two on linear phantoms."""
    return trained("panet", linear_phantoms, tmp_path_factory, steps=25, learning_rate=1e-3)


@pytest.fixture(scope="session")
def trained_unet(linear_phantoms: Collection, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """After a few seconds on linear phantoms."""
    return trained("unet", linear_phantoms, tmp_path_factory, steps=40, learning_rate=1e-2)


@pytest.fixture(scope="session")
def trained_maml(linear_phantoms: Collection, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """After a few seconds on linear phantoms."""
    changes = {"batch_size": 2, "episodes": {"n_query": 2}}
    return trained("maml", linear_phantoms, tmp_path_factory, steps=25, learning_rate=1e-2, **changes)


@pytest.fixture
def five(portable_phantoms: Collection) -> Support:
    """Five annotated images of five patients of another scanner."""
    ids = [record.id for record in portable_phantoms.records if record.has_lesion]
    return load_support(portable_phantoms, [ids[::4][:5]])
