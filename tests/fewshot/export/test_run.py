"""Exports run beside their originals, for every method that there is."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.datasets import read_dataset
from episodes.errors import UserError
from episodes.phantoms.layouts import prepare_phantoms
from episodes.phantoms.population import PhantomSpec, generate
from episodes.sampling.episode import Support
from fewshot import export as onnx_file
from fewshot.api import load
from fewshot.checkpoints import network_tensors, save_checkpoint
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.export import TOLERANCE, Baked, ExportRequest, export_checkpoint, open_session, require_same_outputs
from fewshot.methods.contract import METHODS, Ingredients
from fewshot.networks import seeded_network
from tests.fewshot.panet_variants import VARIANTS, variant_config
from tests.fewshot.small_networks import ENCODER, SMALL, plain_encoder

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

SIZE = 64
FEW_STEPS = {"steps": 1}
# Of few operations each: those take the exporter its time.
PLAIN = {
    "panet": (plain_encoder("batch"), ModelConfig(network="panet", levels=(2,))),
    "unet": SMALL["published-unet"],
    "maml": (
        plain_encoder("none"),
        ModelConfig(network="maml", levels=(0, 1), options={"decoder_channels": [8], "inner_steps": 1}),
    ),
    "multitask-unet": SMALL["plain-multitask-unet"],
}
# Every registered method with a network that it can use, whether it is given annotated images, and its options.
EXPORTED: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "empty": ("panet", False, {}),
    "prototypes": ("panet", True, {}),
    "tuned-prototypes": ("panet", True, FEW_STEPS),
    "zero-shot": ("unet", False, {}),
    "fine-tuned": ("unet", True, FEW_STEPS),
    "maml": ("maml", True, {}),
}
FROM_SOURCES = {"centre-ellipse": "unet", "source-prototypes": "panet"}


def write_network(path: Path, encoder: EncoderConfig, model: ModelConfig) -> Path:
    """A network that was never trained."""
    network = seeded_network(encoder, model, 4).eval()
    facts = {"encoder": encoder.model_dump(mode="json"), "model": model.model_dump(mode="json"), "image_size": SIZE}
    save_checkpoint(path, network_tensors(network), facts)
    return path


def write_plain(folder: Path, name: str) -> Path:
    return write_network(folder / f"{name}.safetensors", *PLAIN[name])


@pytest.fixture(scope="module")
def support(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two annotated images."""
    folder = tmp_path_factory.mktemp("annotated")
    root = prepare_phantoms(PhantomSpec("portable", 12, size=SIZE), folder / "phantoms")
    records = [record for record in read_dataset("phantom", root) if record.has_lesion][::3][:2]
    for place, record in enumerate(records):
        for kind, source in (("images", record.image), ("masks", record.masks[0])):
            (folder / "support" / kind).mkdir(parents=True, exist_ok=True)
            (folder / "support" / kind / f"s{place}.png").write_bytes(source.read_bytes())
    return folder / "support"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def metadata(path: Path) -> Mapping[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def scanned(count: int = 3) -> list[NDArray[np.uint8]]:
    """Images that no export was checked on."""
    return [phantom.image for phantom in generate(PhantomSpec("highfreq", count, size=SIZE))]


def as_input(images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Prepared as a user would, without this toolkit."""
    return np.stack([np.stack([image.astype(np.float32) / 255] * 3) for image in images])


def test_every_registered_method_is_exported_here_or_says_that_it_cannot_be() -> None:
    assert EXPORTED.keys() | FROM_SOURCES.keys() == METHODS.keys()


@pytest.mark.parametrize("method", EXPORTED)
def test_an_export_computes_what_the_method_does(tmp_path: Path, support: Path, method: str) -> None:
    network, adapts, options = EXPORTED[method]
    checkpoint = write_plain(tmp_path, network)
    request = ExportRequest(checkpoint, support if adapts else None, method, options=options)
    out = tmp_path / "model.onnx"
    assert export_checkpoint(request, out) <= TOLERANCE
    folders = [sorted((support / kind).iterdir()) for kind in ("images", "masks")] if adapts else [[], []]
    segmenter = load(checkpoint, method, device="cpu", **options).adapt(*folders)
    probabilities, logits = open_session(out)(as_input(scanned()))
    for ours, theirs in zip(segmenter.probabilities(scanned()), probabilities, strict=True):
        np.testing.assert_allclose(theirs[1], ours, atol=TOLERANCE)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(torch.from_numpy(logits).softmax(1).numpy(), probabilities, atol=1e-5)
    (alone, *_) = open_session(out)(as_input(scanned(1)))
    np.testing.assert_allclose(alone, probabilities[:1], atol=TOLERANCE)


@pytest.mark.parametrize("method", FROM_SOURCES)
def test_what_adapts_to_source_datasets_cannot_be_exported(tmp_path: Path, method: str) -> None:
    checkpoint = write_plain(tmp_path, FROM_SOURCES[method])
    with pytest.raises(UserError, match="adapts to source datasets, which a checkpoint does not hold"):
        export_checkpoint(ExportRequest(checkpoint, method=method), tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


class Moody:
    """A user's method whose answer hangs on a decision that no graph of operations can express."""

    uses_support = False

    def __init__(self, ingredients: Ingredients) -> None:
        self.network = ingredients.network

    def adapt(self, support: Support | None) -> None:
        """Nothing to learn."""

    def segment(self, images: Tensor, adapted: None) -> Tensor:
        assert adapted is None
        return images[:, :2] if float(images.mean()) > 0.5 else images[:, 1:]


def test_a_method_that_is_no_graph_says_that_it_cannot_be_exported(tmp_path: Path) -> None:
    request = ExportRequest(write_plain(tmp_path, "unet"), method=f"{__name__}:Moody")
    with pytest.raises(UserError, match=r"^Moody: cannot be exported \(.+\); export another method"):
        export_checkpoint(request, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_panet_can_be_exported(tmp_path: Path, support: Path, variant: str) -> None:
    checkpoint = write_network(tmp_path / "panet.safetensors", ENCODER, variant_config(variant))
    assert export_checkpoint(ExportRequest(checkpoint, support), tmp_path / "model.onnx") <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_network_can_be_exported(tmp_path: Path, support: Path, name: str) -> None:
    checkpoint = write_network(tmp_path / "model.safetensors", *SMALL[name])
    few_shot = SMALL[name][1].network in ("panet", "maml")
    request = ExportRequest(checkpoint, support if few_shot else None)
    assert export_checkpoint(request, tmp_path / "model.onnx") <= TOLERANCE


def test_classes_and_labels_are_told_apart_and_named(tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    export_checkpoint(ExportRequest(write_plain(tmp_path, "multitask-unet"), options={"flips": True}), out)
    probabilities, _, labels = open_session(out)(as_input(scanned()))
    facts = metadata(out)
    assert json.loads(facts["labels"]) == ["normal", "benign", "malignant"]
    assert labels.shape == (3, 3)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-5)
    assert probabilities.shape[1] == len(json.loads(facts["classes"]))


def test_the_file_says_what_it_was_made_from(tmp_path: Path, support: Path) -> None:
    out = tmp_path / "model.onnx"
    export_checkpoint(ExportRequest(write_plain(tmp_path, "panet"), support, shots=1), out)
    facts = metadata(out)
    assert facts["notice"] == "Research only, not for clinical use."
    assert facts["image_size"] == "64"
    assert json.loads(facts["classes"]) == ["background", "lesion"]
    support_facts = json.loads(facts["support"])
    assert len(support_facts["hashes"]) == len(support_facts["masks"]) == 1
    assert str(tmp_path) not in out.read_bytes().decode("latin-1")


@pytest.mark.slow
def test_equal_exports_are_equal_files(tmp_path: Path) -> None:
    checkpoint = write_plain(tmp_path, "unet")
    contents = []
    for name in ("a", "b"):
        export_checkpoint(ExportRequest(checkpoint), tmp_path / f"{name}.onnx")
        contents.append((tmp_path / f"{name}.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_an_export_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_plain(tmp_path, "unet")
    (tmp_path / "model.onnx").write_text("an older one")
    written = onnx_file.open_session

    def slightly_wrong(path: Path) -> onnx_file.Run:
        run = written(path)
        return lambda images: [output + np.float32(2 * TOLERANCE) for output in run(images)]

    monkeypatch.setattr(onnx_file, "open_session", slightly_wrong)
    with pytest.raises(UserError, match=r"model\.onnx: not written: its probabilities would differ .* by 0\.0002"):
        export_checkpoint(ExportRequest(checkpoint), tmp_path / "model.onnx", overwrite=True)
    assert (tmp_path / "model.onnx").read_text() == "an older one"
    assert sorted(path.name for path in tmp_path.glob("*model*")) == ["model.onnx"]


def test_no_number_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(Baked):
        outputs = ("logits",)

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            return (images,)

    monkeypatch.setattr(onnx_file, "open_session", lambda _: lambda images: [images * np.float32("nan")])
    with pytest.raises(UserError, match="differ from the original's by nan"):
        require_same_outputs(tmp_path / "any", Nothing(), torch.ones(1, 3, 4, 4), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "prototypes"}, "the method 'prototypes' needs annotated images"),
        ({"options": {"dropout_samples": 3}, "method": "zero-shot"}, "dropout_samples"),
        ({"options": {"steps": 1}}, "unknown key 'steps'|steps"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    name = "panet" if changes.get("method") == "prototypes" else "multitask-unet"
    request = replace(ExportRequest(write_plain(tmp_path, name)), **changes)
    with pytest.raises(UserError, match=message):
        export_checkpoint(request, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


def test_files_are_replaced_when_asked_alone(tmp_path: Path) -> None:
    checkpoint, out = write_plain(tmp_path, "unet"), tmp_path / "model.onnx"
    with pytest.raises(UserError, match=r"ends in \.onnx"):
        export_checkpoint(ExportRequest(checkpoint), tmp_path / "model.pt2")
    out.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_checkpoint(ExportRequest(checkpoint), out)
    assert out.read_text() == "mine"


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot.export._PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"no_such_package: not installed; pip install 'fewshot-bus\[export\]'"):
        export_checkpoint(ExportRequest(tmp_path / "any"), tmp_path / "model.onnx")
