"""A server of small checkpoints, as requests and browsers meet it."""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from httpx import Response
from numpy.typing import NDArray
from PIL import Image

from episodes.datasets import read_dataset
from episodes.images.decoding import read_image
from episodes.phantoms.layouts import prepare_phantoms
from episodes.phantoms.population import PhantomSpec
from episodes.storage.store import Collection
from fewshot.api import load
from fewshot.checkpoints import network_tensors, save_checkpoint
from fewshot.config.training import ModelConfig
from fewshot.demo.choices import MethodChoice, load_choices
from fewshot.demo.images import SessionLimits
from fewshot.demo.sessions import Sessions
from fewshot.inference.out_of_distribution import training_feature_tensors
from fewshot.networks import seeded_network
from tests.episodes.made_pictures import read_label_map
from tests.fewshot.small_networks import ENCODER, MODELS

testclient = pytest.importorskip("starlette.testclient", reason="starlette, the demo's server, is not installed")

PRIOR = ModelConfig(network="panet", levels=(2,), output_stride=8, options={"prior": True})
NETWORKS = {"prior": PRIOR, "panet": MODELS["panet"], "unet": MODELS["unet"]}


@dataclass(frozen=True)
class Annotated:
    """An image file and where its lesion is."""

    path: Path
    mask: NDArray[np.bool_]

    @property
    def mask_png(self) -> bytes:
        return as_png(self.mask.astype(np.uint8) * np.uint8(255))


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def from_png(content: bytes) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture(scope="session")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> list[Annotated]:
    """Lesion images of a phantom scanner, larger than the working size and not square."""
    folder = tmp_path_factory.mktemp("annotated")
    root = prepare_phantoms(PhantomSpec("portable", 12, size=96), folder)
    found = []
    for record in read_dataset("phantom", root):
        grey = read_image(record.image)
        mask = read_label_map(record, (grey.shape[0], grey.shape[1])) > 0
        if mask.any():
            path = folder / f"case {len(found)}.png"
            path.write_bytes(as_png(grey[4:84]))
            found.append(Annotated(path, mask[4:84]))
    return [case for case in found if case.mask.any()]


@pytest.fixture(scope="session")
def checkpoints(
    tmp_path_factory: pytest.TempPathFactory, annotated: list[Annotated], linear_phantoms: Collection
) -> dict[str, Path]:
    """Networks that were never trained, but mark something and know some images."""
    paths = {name: tmp_path_factory.mktemp("models") / f"{name}.safetensors" for name in NETWORKS}
    for name, model in NETWORKS.items():
        network = seeded_network(ENCODER, model, seed=4).eval()
        facts = {
            "encoder": ENCODER.model_dump(mode="json"),
            "model": model.model_dump(mode="json"),
            "image_size": 64,
        }
        features = training_feature_tensors(network, linear_phantoms, torch.device("cpu"))
        save_checkpoint(paths[name], network_tensors(network) | features, facts)
        if name == "unet":
            logits = load(paths[name], device="cpu").adapt().probabilities([annotated[5].path])[0]
            with torch.no_grad():
                network.head.bias -= float(np.log(np.median(logits) / (1 - np.median(logits))))
            save_checkpoint(paths[name], network_tensors(network) | features, facts)
    return paths


@pytest.fixture(scope="session")
def choices(checkpoints: dict[str, Path]) -> list[MethodChoice]:
    return load_choices(list(checkpoints.values()), "cpu")


@pytest.fixture(scope="session")
def by_name(choices: list[MethodChoice]) -> dict[str, MethodChoice]:
    """Choices as `model method`."""
    return {f"{choice.title} {choice.model.name}": choice for choice in choices}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made for the time of a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@dataclass
class Clock:
    """Seconds that pass when told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Visitor:
    """One open page, without a browser."""

    client: Any
    token: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.facts = self.client.post("/session").json()
        self.token = self.facts["token"]

    def ask(self, method: str, path: str, **details: Any) -> Response:
        headers = {"fewshot-session": self.token, **details.pop("headers", {})}
        response: Response = self.client.request(method, path, headers=headers, **details)
        return response

    def upload(self, kind: str, content: bytes, name: str = "a.png") -> Response:
        return self.ask("POST", f"/{kind}", content=content, headers={"fewshot-file": name})

    def add(self, kind: str, case: Annotated) -> str:
        """Add an image, and paint its lesion if it is a support image; gives its id."""
        image_id = str(self.upload(kind, case.path.read_bytes(), case.path.name).json()["id"])
        if kind == "supports":
            assert self.ask("PUT", f"/supports/{image_id}/mask", content=case.mask_png).status_code == 200
        return image_id

    def answer(self, query: str, choice: str, shots: int) -> Response:
        return self.ask("POST", f"/queries/{query}/answer", json={"choice": choice, "shots": shots})


@dataclass
class Served:
    """A server: its sessions, its folder, its clock, and a client that calls it."""

    client: Any
    sessions: Sessions
    folder: Path
    clock: Clock

    def visitor(self) -> Visitor:
        return Visitor(self.client)

    def files(self) -> list[Path]:
        """All that is kept for all pages."""
        return [path for path in self.folder.rglob("*") if path.is_file()]


LIMITS = SessionLimits(
    file_bytes=200_000,
    session_bytes=300_000,
    supports=2,
    queries=3,
    sessions=3,
    idle_seconds=60,
    yielding_seconds=20,
)


@pytest.fixture
def served(temporary: Path, choices: list[MethodChoice]) -> Iterator[Served]:
    from fewshot.demo.server import build_app, server_folder

    clock = Clock()
    with server_folder() as folder:
        sessions = Sessions(folder, LIMITS, clock)
        app = build_app(choices, sessions)
        with testclient.TestClient(app, base_url="http://127.0.0.1:7860", raise_server_exceptions=False) as client:
            yield Served(client, sessions, folder, clock)
