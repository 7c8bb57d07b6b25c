"""Fixtures of the model side: networks that have learned a little, and a browser for what is drawn."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from torch import nn

from episodes.sampling.episode import Support, load_support
from episodes.storage.store import Collection
from tests.fewshot.small_networks import training

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass(frozen=True)
class Trained:
    """A network, and its loss at every step of its training."""

    network: nn.Module
    losses: list[float]


# What each network needs to learn a little within a few seconds.
SCHEDULES: dict[str, dict[str, Any]] = {
    "panet": {"steps": 25, "learning_rate": 1e-3},
    "maml": {"steps": 25, "learning_rate": 1e-2, "batch_size": 2, "episodes": {"n_query": 2}},
    "unet": {"steps": 40, "learning_rate": 1e-2},
    "multitask-unet": {"steps": 40, "learning_rate": 1e-2},
    "deep-resnet": {"steps": 30, "learning_rate": 3e-3},
    "pyramid-panet": {"steps": 30, "learning_rate": 3e-3},
}


@pytest.fixture(scope="session")
def trained(linear_phantoms: Collection, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Networks by name, each trained once on linear phantoms."""

    @cache
    def train(name: str) -> Trained:
        losses: list[float] = []
        case = training(
            name, linear_phantoms, **{"augmentation": "none", "batch_size": 4, "warmup_steps": 3, **SCHEDULES[name]}
        )
        case.run(tmp_path_factory.mktemp(name) / "state", on_step=lambda _, values: losses.append(values["loss"]))
        return Trained(case.network, losses)

    return train


@pytest.fixture(scope="session")
def trained_panet(trained: Callable[[str], Trained]) -> Trained:
    return trained("panet")


@pytest.fixture(scope="session")
def trained_unet(trained: Callable[[str], Trained]) -> Trained:
    return trained("unet")


@pytest.fixture(scope="session")
def trained_maml(trained: Callable[[str], Trained]) -> Trained:
    return trained("maml")


@pytest.fixture
def five(portable_phantoms: Collection) -> Support:
    """Five annotated images of five patients of another scanner."""
    ids = [record.id for record in portable_phantoms.records if record.has_lesion]
    return load_support(portable_phantoms, [ids[::4][:5]])


# Of a module, not of the session: playwright's event loop would be in the way of other tests'.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives it, is not installed")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=list(QUIET))
        yield opened
        opened.close()
