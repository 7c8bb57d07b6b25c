"""What the page's server takes, gives and refuses."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fewshot.demo.conftest import LIMITS, Annotated, Served, as_png, from_png

NOISE = np.random.default_rng(0).integers(0, 256, (80, 96), np.uint8)


def message(response: Any) -> str:
    return str(response.json()["error"])


# Images


def test_an_image_is_taken_in_and_shown_as_its_grey_values(served: Served) -> None:
    page = served.visitor()
    colours = np.stack([NOISE] * 3, axis=2)
    taken = page.upload("queries", as_png(colours), "a b.png").json()
    assert (taken["name"], taken["size"], taken["shown"]) == ("a b.png", [96, 80], [96, 80])
    shown = page.ask("GET", f"/queries/{taken['id']}/picture")
    assert shown.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(from_png(shown.content), NOISE)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF"])
def test_every_kind_of_image_file_is_taken(served: Served, form: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, format=form)
    assert served.visitor().upload("queries", buffer.getvalue(), f"a.{form.lower()}").status_code == 200


def bad_files() -> dict[str, tuple[bytes, str]]:
    huge = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(huge, format="PNG")
    clip = io.BytesIO()
    frames = [Image.fromarray(NOISE), Image.fromarray(NOISE.T)]
    frames[0].save(clip, format="TIFF", save_all=True, append_images=frames[1:])
    return {
        "text": (b"not a picture at all", "cannot be decoded"),
        "truncated": (as_png(NOISE)[:4000], "cannot be decoded"),
        "100 megapixels": (huge.getvalue(), "100000000 pixels|exceed the limit"),
        "nothing": (b"", "the file is empty"),
        "a page": (b"<html><script>alert(1)</script></html>", "cannot be decoded"),
    }


@pytest.mark.parametrize("kind", ["supports", "queries"])
@pytest.mark.parametrize(("what", "file"), bad_files().items())
def test_what_is_no_fit_image_is_refused_by_its_own_name(
    served: Served, kind: str, what: str, file: tuple[bytes, str]
) -> None:
    content, reason = file
    refused = served.visitor().upload(kind, content, "mine.png")
    assert refused.status_code == 422
    assert message(refused).startswith("mine.png")
    assert any(part in message(refused) for part in reason.split("|"))
    assert str(served.folder) not in refused.text
    assert served.files() == []


def test_names_are_names_and_never_places(served: Served) -> None:
    page = served.visitor()
    outside = {path for path in served.folder.parent.rglob("*") if served.folder not in path.parents}
    for name in ("..%2F..%2Fa.png", "%2Fetc%2Fpasswd", "C:%5Cb.png", "%00.png", "a%0Ab.png"):
        taken = page.upload("queries", as_png(NOISE), name)
        assert taken.status_code == 200
        assert not set(taken.json()["name"]) & set("/\\\0\n")
        page.ask("DELETE", f"/queries/{taken.json()['id']}")
    assert {path for path in served.folder.parent.rglob("*") if served.folder not in path.parents} == outside


# Limits


def test_a_file_may_be_so_large_and_not_larger(served: Served) -> None:
    page = served.visitor()
    content = as_png(NOISE)
    padded = content + bytes(LIMITS.file_bytes - len(content))
    assert page.upload("queries", padded).status_code == 200
    refused = page.upload("queries", padded + b"0", "large.png")
    assert (refused.status_code, message(refused).split(":")[0]) == (413, "large.png")
    assert not [file for file in served.files() if file.name.startswith("upload")]


def test_all_files_of_a_page_together_have_a_limit(served: Served) -> None:
    page = served.visitor()
    noise = as_png(np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8))
    assert page.upload("queries", noise).status_code == 200
    refused = page.upload("queries", noise)
    assert (refused.status_code, "all files together" in message(refused)) == (413, True)
    assert sum(file.stat().st_size for file in served.files()) <= LIMITS.session_bytes


@pytest.mark.parametrize(("kind", "most"), [("supports", LIMITS.supports), ("queries", LIMITS.queries)])
def test_there_may_be_so_many_images_and_no_more(served: Served, kind: str, most: int) -> None:
    page = served.visitor()
    ids = [page.upload(kind, as_png(NOISE)).json()["id"] for _ in range(most)]
    refused = page.upload(kind, as_png(NOISE))
    assert (refused.status_code, str(most) in message(refused)) == (422, True)
    page.ask("DELETE", f"/{kind}/{ids[0]}")
    assert page.upload(kind, as_png(NOISE)).status_code == 200
    assert len(served.files()) == most


def test_so_many_pages_may_be_in_use(served: Served) -> None:
    pages = [served.visitor() for _ in range(LIMITS.sessions)]
    for page in pages:
        page.upload("queries", as_png(NOISE))
    refused = served.client.post("/session")
    assert (refused.status_code, "pages are open already" in message(refused)) == (429, True)
    served.client.post("/session/end", content=pages[0].token)
    assert served.client.post("/session").status_code == 200


def test_a_page_without_images_gives_way_first_and_then_the_one_that_is_idle_for_longest(served: Served) -> None:
    first, empty, last = (served.visitor() for _ in range(LIMITS.sessions))
    for seconds, page in ((0, first), (5, last)):
        served.clock.now += seconds
        page.upload("queries", as_png(NOISE))
    new = served.visitor()
    assert [page.ask("GET", "/queue").status_code for page in (first, empty, last, new)] == [200, 410, 200, 200]
    new.upload("queries", as_png(NOISE))
    served.clock.now += LIMITS.yielding_seconds
    assert last.ask("GET", "/queue").status_code == new.ask("GET", "/queue").status_code == 200
    another = served.visitor()
    assert [page.ask("GET", "/queue").status_code for page in (first, last, new, another)] == [410, 200, 200, 200]


# Painting


def test_a_painted_lesion_is_given_back_as_it_was_painted(served: Served, annotated: list[Annotated]) -> None:
    page, case = served.visitor(), annotated[0]
    image_id = page.add("supports", case)
    np.testing.assert_array_equal(from_png(page.ask("GET", f"/supports/{image_id}/mask").content) > 0, case.mask)
    painted = page.ask("PUT", f"/supports/{image_id}/mask", content=case.mask_png).json()
    assert painted["area"] == case.mask.sum()
    assert painted["coverage"] == pytest.approx(case.mask.mean())
    assert painted["outline"]["box"] == [96, 80]


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.zeros((80, 96), np.uint8), "nothing is painted"),
        (np.full((80, 96), 255, np.uint8), "everything is painted"),
    ],
)
def test_an_empty_painting_and_a_full_one_are_refused(served: Served, mask: Any, reason: str) -> None:
    page = served.visitor()
    image_id = page.upload("supports", as_png(NOISE)).json()["id"]
    refused = page.ask("PUT", f"/supports/{image_id}/mask", content=as_png(mask))
    assert (refused.status_code, reason in message(refused)) == (422, True)
    assert page.ask("GET", f"/supports/{image_id}/mask").status_code == 404


def test_a_mask_file_is_shown_before_it_counts(served: Served, annotated: list[Annotated]) -> None:
    page, case = served.visitor(), annotated[0]
    image_id = page.upload("supports", case.path.read_bytes()).json()["id"]
    headers = {"fewshot-file": "m.png"}
    read = page.ask("POST", f"/supports/{image_id}/mask-file", content=case.mask_png, headers=headers)
    np.testing.assert_array_equal(from_png(read.content) > 0, case.mask)
    assert page.ask("GET", f"/supports/{image_id}/mask").status_code == 404
    other = as_png(case.mask[:40].astype(np.uint8) * np.uint8(255))
    refused = page.ask("POST", f"/supports/{image_id}/mask-file", content=other, headers=headers)
    assert message(refused) == "m.png: is 96 x 40 pixels, but a.png is 96 x 80; choose the image's own mask"


def test_a_large_image_is_painted_at_the_size_at_which_it_is_shown(served: Served) -> None:
    page = served.visitor()
    taken = page.upload("supports", as_png(np.zeros((100, 4096), np.uint8))).json()
    assert (taken["size"], taken["shown"]) == ([4096, 100], [2048, 50])
    mask = np.zeros((50, 2048), np.uint8)
    mask[10:40, 100:900] = 255
    painted = page.ask("PUT", f"/supports/{taken['id']}/mask", content=as_png(mask)).json()
    assert painted["area"] == 4 * 30 * 800


# Sessions


def test_pages_do_not_see_each_others_images(served: Served) -> None:
    one, other = served.visitor(), served.visitor()
    image_id = one.upload("queries", as_png(NOISE)).json()["id"]
    assert one.ask("GET", f"/queries/{image_id}/picture").status_code == 200
    assert other.ask("GET", f"/queries/{image_id}/picture").status_code == 404
    assert served.client.get(f"/queries/{image_id}/picture").status_code == 410
    assert served.client.get(f"/queries/{image_id}/picture", headers={"fewshot-session": "x"}).status_code == 410


def test_a_closed_page_leaves_nothing(served: Served, annotated: list[Annotated]) -> None:
    page, other = served.visitor(), served.visitor()
    page.add("supports", annotated[0])
    kept = other.upload("queries", as_png(NOISE)).json()["id"]
    assert len(served.files()) == 3
    assert served.client.post("/session/end", content=page.token).status_code == 204
    assert len(served.files()) == 1
    assert page.upload("queries", as_png(NOISE)).status_code == 410
    assert other.ask("GET", f"/queries/{kept}/picture").status_code == 200
    assert served.client.post("/session/end", content="no such token").status_code == 204


def test_an_unused_page_ends_by_itself(served: Served) -> None:
    page, other = served.visitor(), served.visitor()
    page.upload("queries", as_png(NOISE))
    served.clock.now = LIMITS.idle_seconds - 1
    other.upload("queries", as_png(NOISE))
    served.clock.now = LIMITS.idle_seconds + 1
    served.sessions.expire()
    assert "the session has ended" in message(page.upload("queries", as_png(NOISE)))
    assert other.upload("queries", as_png(NOISE)).status_code == 200


def test_when_the_server_stops_nothing_is_left(temporary: Path, choices: Any) -> None:
    from starlette.testclient import TestClient

    from fewshot.demo.server import build_app, server_folder
    from fewshot.demo.sessions import Sessions
    from tests.fewshot.demo.conftest import Visitor

    with server_folder() as folder:
        app = build_app(choices, Sessions(folder, LIMITS))
        with TestClient(app, base_url="http://localhost") as client:
            Visitor(client).upload("queries", as_png(NOISE))
            assert list(folder.iterdir())
        assert list(folder.iterdir()) == []
    assert [path for path in temporary.rglob("*") if path.is_file() or path == folder] == []


# What else is asked


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"choice": "no such", "shots": 0}, 404),
        ({"choice": "0-prototypes", "shots": -1}, 400),
        ({"choice": "0-prototypes", "shots": "1"}, 400),
        ({"choice": "0-prototypes"}, 400),
        ({"choice": "0-prototypes", "shots": 1}, 409),
        ([1], 400),
    ],
)
def test_what_makes_no_sense_is_refused(served: Served, asked: Any, status: int) -> None:
    page = served.visitor()
    query = page.upload("queries", as_png(NOISE)).json()["id"]
    refused = page.ask("POST", f"/queries/{query}/answer", json=asked)
    assert refused.status_code == status
    assert message(refused)


def test_a_fault_is_no_secret_and_tells_none(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page = served.visitor()
    query = page.upload("queries", as_png(NOISE)).json()["id"]
    monkeypatch.setattr("fewshot.demo.requests.prediction_json", lambda *_: 1 / 0)
    failed = page.answer(query, "0-prototypes", 0)
    assert (failed.status_code, "division" in failed.text) == (500, False)
    assert "a fault of the program" in message(failed)
    assert page.upload("queries", as_png(NOISE)).status_code == 200


def test_a_page_can_ask_how_many_computations_are_under_way(served: Served) -> None:
    assert served.visitor().ask("GET", "/queue").json() == {"waiting": 0}
    assert served.client.get("/queue").status_code == 410
