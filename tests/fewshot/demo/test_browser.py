"""The page in a browser, as a user works with it: Debian's Chromium, driven by playwright."""

import base64
import re
import socket
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fewshot.demo.choices import MethodChoice
from fewshot.demo.images import SessionLimits
from fewshot.demo.sessions import Sessions
from tests.fewshot.demo.conftest import Annotated, from_png

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
NOTICE = "Research only. Not for clinical use."


@dataclass
class Running:
    """A server that a browser can reach."""

    address: str
    folder: Path
    sessions: Sessions

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@dataclass
class Opened:
    """A page, and what happened while it was open."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def find(self, selector: str) -> Any:
        return self.page.locator(selector)

    def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                f"it did not come; the page says: {self.status} {self.find('#editor-error').inner_text()}"
            )
            self.page.wait_for_timeout(20)

    @property
    def status(self) -> str:
        return str(self.find("#status").inner_text())

    def done(self) -> None:
        """Wait until there is nothing left to compute."""
        self.until(lambda: " segmented" in self.status)

    def add_queries(self, *files: Any) -> None:
        self.page.set_input_files("#queries input:not(.folder)", list(files))

    def add_support(self, file: Any) -> None:
        """Add an image; the painting area opens by itself."""
        self.page.set_input_files("#supports input", file)
        self.page.wait_for_selector("#editor[open]")

    def use(self, tool: str) -> None:
        self.find(f"label:has(input[value={tool}])").click()

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the image (80 x 96) lies on the screen, as long as all of it is shown."""
        box = self.find("#canvas").bounding_box()
        margin = 8 if box["width"] < 500 else 24
        scale = min((box["width"] - 2 * margin) / 96, (box["height"] - 2 * margin) / 80)
        left, top = (box["width"] - 96 * scale) / 2, (box["height"] - 80 * scale) / 2
        return box["x"] + left + x * scale, box["y"] + top + y * scale

    def stroke(self, *places: tuple[float, float]) -> None:
        self.page.mouse.move(*self.place(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.place(*place), steps=4)
        self.page.mouse.up()

    def click(self, *places: tuple[float, float]) -> None:
        for place in places:
            self.page.mouse.click(*self.place(*place))

    def finish(self) -> None:
        """Take over what is painted."""
        self.find("#done").click()
        self.until(lambda: not self.find("#editor").is_visible())

    def strip(self) -> list[str]:
        return [str(text) for text in self.find("#strip .shots").all_inner_texts()]

    def outlines(self) -> list[str]:
        """The outlines of the steps, as they are drawn."""
        return [
            str(step.locator("path.prediction").get_attribute("d")) if step.locator("path.prediction").count() else ""
            for step in self.find("#strip .step").all()
        ]

    def downloaded(self) -> dict[str, bytes]:
        with self.page.expect_download() as download:
            self.find("#download-button").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}

    def painted(self, place: int = 1) -> NDArray[np.bool_]:
        """What is painted on a support image."""
        names = {name: content for name, content in self.downloaded().items() if name.startswith("support/masks")}
        mask: NDArray[np.bool_] = from_png(sorted(names.items())[place - 1][1]) > 0
        return mask


@contextmanager
def started(folder: Path, choices: list[MethodChoice], *access: str) -> Iterator[Running]:
    """Start a server as `serve` does; of the network if it is given a host and an access token."""
    from fewshot.demo.server import build_app, new_server, server_folder

    with pytest.MonkeyPatch.context() as patch, socket.socket() as listener:
        patch.setattr(tempfile, "tempdir", str(folder))
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with server_folder() as private:
            sessions = Sessions(private, SessionLimits())
            server = new_server(build_app(choices, sessions, *access))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", private, sessions)
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, choices: list[MethodChoice]) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("temporary"), choices) as server:
        yield server


Open = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Any, running: Running) -> Iterator[Open]:
    """Open pages; none may ask for anything but this server, or complain of anything."""
    contexts = []
    pages: list[Opened] = []

    def open_one(**look: Any) -> Opened:
        context = browser.new_context(**(look or DESKTOP), accept_downloads=True)
        contexts.append(context)
        opened = Opened(context.new_page())
        pages.append(opened)

        def only_the_server(route: Any) -> None:
            if route.request.url.startswith((f"{running.address}/", "blob:")):
                route.continue_()
            else:
                opened.complaints.append(f"asked for {route.request.url}")
                route.abort()

        context.route("**/*", only_the_server)
        opened.page.on("console", lambda said: opened.complaints.append(said.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("dialog", lambda shown: opened.complaints.append(f"a dialog: {shown.message}"))
        opened.page.goto(running.address)
        opened.page.wait_for_selector("body[data-ready]")
        return opened

    yield open_one
    for context in contexts:
        context.close()
    running.sessions.close_all()
    # What the server refuses, the browser's console repeats by itself.
    assert [text for page in pages for text in page.complaints if "status of 4" not in text] == []


def test_from_the_first_image_to_the_download(
    open_page: Open, annotated: list[Annotated], by_name: dict[str, MethodChoice]
) -> None:
    page = open_page()
    assert NOTICE in page.find(".notice").inner_text()
    assert page.find("#download-button").is_disabled()

    # Without a support image, as the method has a prior.
    page.add_queries(*(case.path for case in annotated[2:5]))
    page.done()
    assert page.find("#gallery li").count() == 3
    assert page.strip() == ["0 supports"]

    # Painted with the brush, seen with its outline, and the masks change.
    page.add_support(annotated[0].path)
    assert NOTICE in page.find(".notice").inner_text()
    page.stroke((40, 40), (56, 40))
    page.finish()
    page.done()
    assert page.find("#supports path.painted").count() == 1
    page.until(lambda: page.strip() == ["0 supports", "1 support"] and all(page.outlines()))
    before, after = page.outlines()
    assert before != after

    # A second, as a polygon.
    page.add_support(annotated[1].path)
    page.use("polygon")
    page.click((30, 30), (60, 30), (60, 60), (30, 60), (30, 30))
    page.finish()
    page.until(lambda: len(page.strip()) == 3 and all(page.outlines()))
    page.done()
    assert page.outlines()[:2] == [before, after]
    assert page.outlines()[2] != after
    assert "with 2 support images" in page.find("#stage-name").inner_text()

    # A step is shown large when it is chosen; the heat map and the outline can be taken away.
    page.find("#strip .step").first.click()
    page.until(lambda: "without support images" in page.find("#stage-name").inner_text())
    assert page.find("#stage path.prediction").get_attribute("d") == before
    page.find("#show-heat").check()
    page.find("#stage img.heat").wait_for()
    page.find("#show-outline").uncheck()
    page.until(lambda: page.find("#stage path").count() == 0)

    # Another method.
    page.page.select_option("#model", "unet")
    page.done()
    page.until(lambda: page.strip() == ["0 supports"])
    assert "change nothing" in page.find("#choice-remark").inner_text()
    assert page.outlines()[0] not in (before, after)

    # Everything in one file.
    content = page.downloaded()
    names = {f"{folder}/case {place}.png" for folder in ("masks", "probabilities", "overlays") for place in (2, 3, 4)}
    supports = {f"support/{part}/{name}.png" for part in ("images", "masks") for name in ("01-case 0", "02-case 1")}
    assert set(content) == names | supports | {"predictions.csv", "README.txt"}
    square = from_png(content["support/masks/02-case 1.png"]) > 0
    assert square[32:58, 32:58].all()
    assert square.sum() == pytest.approx(900, rel=0.1)
    assert len(content["predictions.csv"].decode().splitlines()) == 4
    assert NOTICE in content["README.txt"].decode()


def test_painting_tools(open_page: Open, annotated: list[Annotated]) -> None:
    page = open_page()
    page.add_queries(annotated[2].path)
    page.add_support(annotated[0].path)
    assert page.find("#undo").is_disabled()
    page.use("polygon")
    page.click((20, 20), (70, 20), (70, 60))
    page.page.mouse.dblclick(*page.place(20, 60))  # closes it
    page.use("eraser")
    page.page.evaluate("document.querySelector('#brush-size').value = 10")
    page.stroke((20, 40), (70, 40))
    page.use("brush")
    page.stroke((5, 70), (15, 70))  # taken back
    page.find("#undo").click()
    page.stroke((80, 70), (90, 70))  # taken back, and brought again
    page.page.keyboard.press("Control+z")
    page.page.keyboard.press("Control+Shift+Z")
    page.use("polygon")
    page.click((5, 5), (10, 5), (10, 10))
    page.page.keyboard.press("Escape")  # the polygon alone
    assert page.find("#editor").is_visible()
    page.finish()
    page.done()
    mask = page.painted()
    assert mask[22:33, 22:68].all()
    assert mask[47:58, 22:68].all()
    assert not mask[37:44, 22:68].any()
    assert not mask[66:74, 3:18].any()
    assert mask[68:72, 80:90].all()
    assert not mask[4:11, 4:11].any()

    # Painted again: what was there is still there.
    page.find("#supports .tile").click()
    page.page.wait_for_selector("#editor[open]")
    page.find("#canvas").hover(position={"x": 300, "y": 200})
    page.page.mouse.wheel(0, -600)
    page.find("#zoom-fit").click()
    page.use("brush")
    page.stroke((8, 70), (12, 70))
    page.finish()
    page.done()
    again = page.painted()
    assert again[68:72, 8:12].all()
    assert again[mask].all()


def test_zoom_and_move_change_where_one_paints_and_not_what(open_page: Open, annotated: list[Annotated]) -> None:
    page = open_page()
    page.add_queries(annotated[2].path)
    page.add_support(annotated[0].path)
    x, y = page.place(30, 30)
    page.page.mouse.move(x, y)
    page.page.mouse.wheel(0, -500)  # what is under the pointer stays there
    page.use("move")
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x + 100, y + 60, steps=3)
    page.page.mouse.up()
    page.use("brush")
    page.page.mouse.click(x + 100, y + 60)
    page.finish()
    page.done()
    rows, columns = np.nonzero(page.painted())
    assert (rows.mean(), columns.mean()) == pytest.approx((29.5, 29.5), abs=0.6)


def test_one_can_paint_by_keys_alone(open_page: Open, annotated: list[Annotated]) -> None:
    page = open_page()
    page.add_queries(annotated[2].path)
    page.add_support(annotated[0].path)
    assert page.page.evaluate("document.activeElement.id") == "canvas"
    for key in ("p", *["ArrowLeft"] * 6, " ", *["ArrowRight"] * 12, " ", *["ArrowDown"] * 9, " ", "Enter"):
        page.page.keyboard.press("Space" if key == " " else key)
    page.finish()
    page.done()
    assert 0.01 < page.painted().mean() < 0.2


def test_an_empty_painting_is_not_taken(open_page: Open, annotated: list[Annotated]) -> None:
    page = open_page()
    page.add_support(annotated[0].path)
    page.find("#done").click()
    assert "Nothing is painted" in page.find("#editor-error").inner_text()
    page.stroke((40, 40), (50, 40))
    page.find("#clear-painting").click()
    page.find("#done").click()
    assert "Nothing is painted" in page.find("#editor-error").inner_text()
    page.find("#cancel").click()
    assert "Paint the lesion" in page.find("#supports .tile").inner_text()
    page.page.select_option("#model", "panet")  # it has no prior
    page.add_queries(annotated[2].path)
    page.until(lambda: "needs a support image" in page.status)


def test_a_mask_file_is_looked_at_first(open_page: Open, annotated: list[Annotated], tmp_path: Path) -> None:
    page = open_page()
    page.add_queries(annotated[2].path)
    page.add_support(annotated[0].path)
    (tmp_path / "wrong.png").write_bytes(b"text")
    page.page.set_input_files("#mask-input", tmp_path / "wrong.png")
    page.until(lambda: "wrong.png cannot be decoded" in page.find("#editor-error").inner_text())
    (tmp_path / "mask.png").write_bytes(annotated[0].mask_png)
    page.page.set_input_files("#mask-input", tmp_path / "mask.png")
    page.until(page.find("#undo").is_enabled)
    page.finish()
    page.done()
    np.testing.assert_array_equal(page.painted(), annotated[0].mask)


def test_bad_files_are_named_beside_where_they_came_in(
    open_page: Open, annotated: list[Annotated], tmp_path: Path
) -> None:
    page = open_page()
    evil = "<img src=x onerror=alert(1)>.png"
    whole = annotated[2].path.read_bytes()
    contents = {"text.png": b"no picture", "half.png": whole[:1000], evil: whole, "empty.png": b""}
    files = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in contents.items()]
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    page.add_queries(*files)
    errors = page.find("#queries .errors li")
    page.until(lambda: errors.count() == 3)
    said = errors.all_inner_texts()
    assert [text.split(" cannot")[0].split(":")[0] for text in said] == ["text.png", "half.png", "empty.png"]
    page.done()
    assert page.find("#gallery .name").all_inner_texts() == [evil]
    assert page.find("img[src=x]").count() == 0
    page.add_queries(tmp_path / "huge.png")
    page.until(lambda: errors.count() == 1 and "huge.png" in errors.first.inner_text())
    page.page.set_input_files("#supports input", files[0])
    page.until(lambda: "text.png" in page.find("#supports .errors").inner_text())
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(33 * 2**20)
    page.add_queries(tmp_path / "large.png")
    page.until(lambda: "large.png: larger than 32 MB" in page.find("#queries .errors").inner_text())


def test_pages_are_apart_and_a_closed_one_leaves_nothing(
    open_page: Open, annotated: list[Annotated], running: Running
) -> None:
    one, other = open_page(), open_page()
    one.add_queries(annotated[2].path)
    one.add_support(annotated[0].path)
    other.add_queries(annotated[3].path)
    other.done()
    one.until(lambda: one.find("#gallery li").count() == 1)
    assert other.find("#gallery .name").all_inner_texts() == ["case 3.png"]
    assert other.find("#supports .tile").count() == 0
    kept = len(running.files())
    one.page.context.unroute_all()  # a closed page's last request would wait for its route for ever
    one.page.close(run_before_unload=True)  # half-way: the painting area is open
    other.until(lambda: len(running.files()) == kept - 2)
    other.page.reload()
    other.page.wait_for_selector("body[data-ready]")
    other.until(lambda: running.files() == [])
    assert other.find("#gallery li").count() == 0


def test_a_session_that_has_ended_is_said_to_have(
    open_page: Open, annotated: list[Annotated], running: Running
) -> None:
    page = open_page()
    running.sessions.close_all()
    page.add_queries(annotated[2].path)
    page.find("#ended").wait_for()
    assert "the session has ended" in page.find("#ended").inner_text()
    page.find("#ended button").click()
    page.page.wait_for_selector("body[data-ready]")
    assert not page.find("#ended").is_visible()


def test_on_a_phone_one_paints_by_touch_and_nothing_is_wider_than_the_screen(
    open_page: Open, annotated: list[Annotated]
) -> None:
    page = open_page(**PHONE)

    def too_wide() -> int:
        return int(page.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    assert too_wide() <= 0
    page.add_queries(*(case.path for case in annotated[2:5]))
    page.done()
    page.add_support(annotated[0].path)
    assert too_wide() <= 0
    box = page.find("#canvas").bounding_box()
    assert box["width"] == 390
    assert box["height"] > 300
    assert page.find("#done").bounding_box()["y"] < 844
    touch(page, [page.place(30, 40), page.place(50, 40), page.place(50, 50)])
    page.finish()
    page.done()
    assert too_wide() <= 0
    mask = page.painted()
    assert mask[39:42, 31:50].all()
    assert mask[41:50, 49:52].all()
    assert re.search(r"the first in \d", page.status)


def touch(page: Opened, places: list[tuple[float, float]]) -> None:
    """Draw with a finger."""
    session = page.page.context.new_cdp_session(page.page)
    kinds = ["touchStart", *["touchMove"] * (len(places) - 1)]
    for kind, (x, y) in zip(kinds, places, strict=True):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_picture_can_be_pasted_and_dropped(open_page: Open, annotated: list[Annotated]) -> None:
    page = open_page()
    give = """([selector, kind, content]) => {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], `${kind}.png`, {type: "image/png"}));
        const details = {bubbles: true, cancelable: true};
        const event = kind === "paste"
            ? new ClipboardEvent("paste", {...details, clipboardData: transfer})
            : new DragEvent("drop", {...details, dataTransfer: transfer});
        document.querySelector(selector).dispatchEvent(event);
    }"""
    content = base64.b64encode(annotated[0].path.read_bytes()).decode()
    page.page.evaluate(give, ["#results", "drop", content])
    page.until(lambda: page.find("#gallery .name").all_inner_texts() == ["drop.png"])
    page.page.evaluate(give, ["body", "paste", content])
    page.page.wait_for_selector("#editor[open]")
    assert page.find("#editor-name").inner_text() == "paste.png"


def test_the_printed_address_opens_the_page_of_a_server_of_the_network(
    browser: Any, tmp_path: Path, choices: list[MethodChoice], annotated: list[Annotated]
) -> None:
    with started(tmp_path, choices, "0.0.0.0", "secret") as server:  # noqa: S104 - what a user may ask for
        stranger, guest = browser.new_context().new_page(), Opened(browser.new_context(**DESKTOP).new_page())
        assert stranger.goto(server.address).status == 401
        guest.page.goto(f"{server.address}/?access=secret")
        guest.page.wait_for_selector("body[data-ready]")
        assert guest.page.url == f"{server.address}/"
        guest.add_queries(annotated[0].path)
        guest.done()
        guest.page.reload()
        guest.page.wait_for_selector("body[data-ready]")
        for page in (stranger, guest.page):
            page.context.close()
