"""Masks of the page are those of the Python API and of the command line, however much is kept from before."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot.api import load
from fewshot.demo.answers import SessionPredictions, load_supports
from fewshot.demo.choices import MethodChoice
from fewshot.demo.images import Recent, SessionLimits, StoredImage
from fewshot.demo.sessions import Session, take_image, take_painting
from fewshot.predict.results import UNSURE_BELOW, read_rows
from fewshot.predict.run import PredictionRequest, predict_folder
from tests.fewshot.demo.conftest import Annotated, Served, from_png
from tests.fewshot.tiny_runs import silent

METHODS = ["prior prototypes", "panet prototypes", "unet zero-shot", "unet fine-tuned"]
QUICK = METHODS[:3]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    (tmp_path / "session").mkdir()
    return Session("token", tmp_path / "session", SessionLimits())


@pytest.fixture
def bring(session: Session) -> Callable[[Annotated], StoredImage]:
    """Bring an image and paint its lesion."""

    def add(case: Annotated) -> StoredImage:
        upload = session.folder / "upload.png"
        upload.write_bytes(case.path.read_bytes())
        image = take_image(upload, session, case.path.name)
        session.add("supports", image)
        upload.write_bytes(case.mask_png)
        take_painting(upload, session, image)
        return session.supports[image.id]

    return add


def test_a_support_set_is_made_as_from_a_folder(
    served: Served,
    bring: Callable[[Annotated], StoredImage],
    annotated: list[Annotated],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The download's support folder, read as the command line reads it."""
    from fewshot.inference.support import load_support_folder

    page = served.visitor()
    for case in annotated[:2]:
        page.add("supports", case)
    page.add("queries", annotated[2])
    content = page.ask("POST", "/archive", json={"choice": "0-prototypes"}).content
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path / "zip")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = load_support_folder(tmp_path / "zip" / "support", 64)
    shown = load_supports([bring(case) for case in annotated[:2]], 64)
    assert torch.equal(folder.images, shown.images)
    assert torch.equal(folder.masks, shown.masks)


@pytest.mark.parametrize("method", QUICK)
def test_the_downloads_masks_are_those_of_the_python_api(
    served: Served,
    by_name: dict[str, MethodChoice],
    checkpoints: dict[str, Path],
    annotated: list[Annotated],
    method: str,
    tmp_path: Path,
) -> None:
    choice = by_name[method]
    page = served.visitor()
    for case in annotated[:2]:
        page.add("supports", case)
    for case in annotated[2:4]:
        page.add("queries", case)
    content = page.ask("POST", "/archive", json={"choice": choice.id}).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path)
    support = [sorted((tmp_path / "support" / part).iterdir()) for part in ("images", "masks")]
    assert [path.name for path in support[0]] == ["01-case 0.png", "02-case 1.png"]
    name, method_name = method.split()
    adaptable = load(checkpoints[name], method_name, device="cpu")
    segmenter = adaptable.adapt(*support) if choice.model.method.uses_support else adaptable.adapt()
    queries = [case.path for case in annotated[2:4]]
    for path, mask, probability in zip(
        queries, segmenter.masks(queries), segmenter.probabilities(queries), strict=True
    ):
        found = from_png((tmp_path / "probabilities" / path.name).read_bytes())
        np.testing.assert_allclose(found / 65535, probability, atol=2e-5)
        differing = (from_png((tmp_path / "masks" / path.name).read_bytes()) > 0) != mask
        assert np.abs(probability[differing] - 0.5).max(initial=0) < 1e-5  # but for rounding
        assert 0 < mask.mean() < 1


@pytest.mark.parametrize("method", METHODS)
def test_the_download_is_what_the_command_line_makes_of_its_support_images(
    served: Served,
    by_name: dict[str, MethodChoice],
    checkpoints: dict[str, Path],
    annotated: list[Annotated],
    method: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, method_name = method.split()
    page, queries = served.visitor(), tmp_path / "queries"
    queries.mkdir()
    for case in annotated[:2]:
        page.add("supports", case)
    for case in annotated[2:4]:
        page.add("queries", case)
        (queries / case.path.name).write_bytes(case.path.read_bytes())
    content = page.ask("POST", "/archive", json={"choice": by_name[method].id}).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "page")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    support = tmp_path / "page" / "support" if by_name[method].model.method.uses_support else None
    request = PredictionRequest(checkpoints[name], str(queries), support, method=method_name, device="cpu")
    predict_folder(request, tmp_path / "line", silent())
    rows = {row["image"]: row for row in read_rows(tmp_path / "line" / "predictions.csv")}
    ours = read_rows(tmp_path / "page" / "predictions.csv")
    assert [row["image"] for row in ours] == ["case 2.png", "case 3.png"]
    for row in ours:
        written = rows[row["image"]]
        assert row["mask"] == written["mask"]
        found, expected = (from_png((tmp_path / side / row["mask"]).read_bytes()) for side in ("page", "line"))
        assert (found != expected).mean() < 1e-3  # but for rounding
        assert float(row["lesion_confidence"]) == pytest.approx(float(written["lesion_confidence"]), abs=1e-3)
        assert float(row["novelty"]) == pytest.approx(float(written["novelty"]), abs=2e-3)
        for column in ("width", "height", "flags", "p_benign"):
            assert row[column] == written[column]


@pytest.mark.parametrize("method", QUICK)
def test_what_was_kept_changes_nothing(
    by_name: dict[str, MethodChoice], bring: Callable[[Annotated], StoredImage], annotated: list[Annotated], method: str
) -> None:
    choice = by_name[method]
    supports, query = [bring(case) for case in annotated[:2]], bring(annotated[2])
    kept = SessionPredictions()
    for other in by_name.values():
        for shots in range(other.fewest, 3):
            if "tuned" not in other.model.name:
                kept.predict(other, supports[:shots], query)
    for shots in range(choice.fewest, 3):
        again = kept.predict(choice, supports[:shots], query)
        fresh = SessionPredictions().predict(choice, supports[:shots], query)
        np.testing.assert_allclose(again.found.probability, fresh.found.probability, atol=1e-6)


def test_an_image_is_encoded_once(
    by_name: dict[str, MethodChoice],
    bring: Callable[[Annotated], StoredImage],
    annotated: list[Annotated],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choice = by_name["prior prototypes"]
    supports, query = [bring(case) for case in annotated[:2]], bring(annotated[2])
    encode, seen = choice.model.method.encode, []  # type: ignore[attr-defined]
    monkeypatch.setattr(choice.model.method, "encode", lambda images: (seen.append(len(images)), encode(images))[1])
    answers = SessionPredictions()
    for shots in (0, 1, 2, 1):
        answers.predict(choice, supports[:shots], query)
    assert sum(seen) == 3


def test_a_lesion_that_is_painted_anew_counts(
    served: Served, annotated: list[Annotated], by_name: dict[str, MethodChoice]
) -> None:
    page, choice = served.visitor(), by_name["panet prototypes"].id
    support, query = page.add("supports", annotated[0]), page.add("queries", annotated[2])
    before = page.answer(query, choice, 1).json()
    elsewhere = np.roll(annotated[0].mask, (30, 40), (0, 1)).astype(np.uint8) * np.uint8(255)
    page.ask("PUT", f"/supports/{support}/mask", content=Annotated(annotated[0].path, elsewhere > 0).mask_png)
    after = page.answer(query, choice, 1).json()
    assert before["outline"] != after["outline"]


def test_a_method_that_needs_support_images_says_so(
    served: Served, annotated: list[Annotated], by_name: dict[str, MethodChoice]
) -> None:
    page = served.visitor()
    query = page.add("queries", annotated[2])
    for method in ("panet prototypes", "unet fine-tuned"):
        refused = page.answer(query, by_name[method].id, 0)
        assert refused.status_code == 422
        assert "needs a support image" in refused.json()["error"]


def test_an_answer_says_what_its_mask_is_like(
    served: Served, annotated: list[Annotated], checkpoints: dict[str, Path], by_name: dict[str, MethodChoice]
) -> None:
    page, case = served.visitor(), annotated[2]
    query = page.add("queries", case)
    answer = page.answer(query, by_name["unet zero-shot"].id, 0).json()
    segmenter = load(checkpoints["unet"], device="cpu").adapt()
    mask, probability = segmenter.masks([case.path])[0], segmenter.probabilities([case.path])[0]
    assert answer["area"] == mask.sum()
    assert answer["coverage"] == pytest.approx(mask.mean())
    assert answer["confidence"] == pytest.approx(probability[mask].mean(), abs=1e-4)
    assert ("unsure" in answer["flags"]) == (probability[mask].mean() < UNSURE_BELOW)
    heat = from_png(page.ask("POST", f"/queries/{query}/heat", json={"choice": "2-zero-shot", "shots": 0}).content)
    np.testing.assert_allclose(heat[..., 3] / 255, probability, atol=0.003)


def test_recent_values_are_made_again_once_they_were_pushed_out() -> None:
    made = []

    def make(key: str) -> str:
        made.append(key)
        return key * 4

    recent = Recent[str, str](8, len)
    for key in "aabcab":
        assert recent.get(key, lambda key=key: make(key)) == key * 4  # type: ignore[misc]
    assert made == ["a", "b", "c", "a", "b"]
    assert list(recent) == ["a", "b"]
    assert Recent[str, str](3, len).get("a", lambda: "larger") == "larger"
