"""What a page asks for: each function answers one kind of request."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from episodes.images.decoding import stretch_labels
from fewshot import __version__
from fewshot.api import lesion_mask
from fewshot.demo.choices import MethodChoice
from fewshot.demo.images import RefusedError, StoredImage, shown_size
from fewshot.demo.sessions import Session, Sessions, Worker
from fewshot.demo.shown import heat, image_json, image_png, outline_json, prediction_json, write_archive
from fewshot.demo.uploads import clean_name, receive, take_image, take_mask, take_painting
from fewshot.results.pictures import mask_png

TOKEN = "fewshot-session"  # noqa: S105 - the header's name
FILE_NAME = "fewshot-file"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Demo:
    """What the requests of all pages share.

    Attributes:
        choices: methods by id.
        sessions: the open pages.
        computing: does what needs a network.
        decoding: does what needs a file's pixels.
    """

    choices: dict[str, MethodChoice]
    sessions: Sessions
    computing: Worker
    decoding: Worker

    @property
    def smallest(self) -> int:
        """The smallest working size."""
        return min(choice.image_size for choice in self.choices.values())


@dataclass(frozen=True, slots=True)
class Asked:
    """An image, a method and a number of support images.

    Attributes:
        choice: the method.
        supports: the first painted ones.
        query: the image to segment.
    """

    choice: MethodChoice
    supports: list[StoredImage]
    query: StoredImage


async def begin(request: Request) -> Response:
    """A page was opened: its token, what it may choose from, and its limits."""
    demo = _demo(request)
    session = demo.sessions.open()
    choices = [choice.as_json() for choice in demo.choices.values()]
    facts = {"token": session.token, "version": __version__, "choices": choices, "limits": session.limits.as_json()}
    return JSONResponse(facts)


async def end(request: Request) -> Response:
    """A page was closed; a browser's last word carries no header, so the token is the body."""
    body = await request.body()
    _demo(request).sessions.close(body.decode("ascii", "replace"))
    return Response(status_code=204)


def adder(kind: str) -> Handler:
    """Take in a file as one of the `supports` or `queries`."""

    async def add(request: Request) -> Response:
        session, name = _session(request), _file_name(request)
        session.check_room(kind)
        upload = await receive(request.stream(), session, name)
        image = await _demo(request).decoding.run(take_image, upload, session, name)
        session.add(kind, image)
        return JSONResponse(image_json(image))

    return add


def remover(kind: str) -> Handler:
    """Delete one of the `supports` or `queries`."""

    async def remove(request: Request) -> Response:
        _session(request).remove(kind, request.path_params["image"])
        return Response(status_code=204)

    return remove


def picture_of(kind: str) -> Handler:
    """Show one of the `supports` or `queries`."""

    async def picture(request: Request) -> Response:
        image = _session(request).find(kind, request.path_params["image"])
        return _png(await _demo(request).decoding.run(image_png, image))

    return picture


async def painted(request: Request) -> Response:
    """What is painted on a support image, at the size at which it is shown."""
    image = _session(request).find("supports", request.path_params["image"])
    if image.mask is None:
        raise RefusedError(f"{image.name}: nothing is painted yet", 404)
    return _png(_shown_mask(lesion_mask(image.mask, image.name)))


async def paint(request: Request) -> Response:
    """Something was painted on a support image."""
    demo, session = _demo(request), _session(request)
    image = session.find("supports", request.path_params["image"])
    upload = await receive(request.stream(), session, "painting.png")
    mask = await demo.decoding.run(take_painting, upload, session, image, demo.smallest)
    return JSONResponse({"outline": outline_json(mask), "area": int(mask.sum()), "coverage": float(mask.mean())})


async def read_mask(request: Request) -> Response:
    """A mask file for a support image: shown, to be looked at before it counts as painted."""
    session, name = _session(request), _file_name(request)
    image = session.find("supports", request.path_params["image"])
    upload = await receive(request.stream(), session, name)
    return _png(_shown_mask(await _demo(request).decoding.run(take_mask, upload, session, name, image)))


async def answer(request: Request) -> Response:
    """The mask of an image by a method with the first so many support images, and what is known of it."""
    session = _session(request)
    asked = await _asked(request, session)

    def compute() -> dict[str, Any]:
        _require_open(session)
        found = session.predictions.predict(asked.choice, asked.supports, asked.query)
        return prediction_json(found, len(asked.supports), asked.query.spacing)

    return JSONResponse(await _demo(request).computing.run(compute))


async def heat_map(request: Request) -> Response:
    """The probabilities behind such a mask, as a picture."""
    session = _session(request)
    asked = await _asked(request, session)

    def compute() -> bytes:
        _require_open(session)
        return heat(session.predictions.predict(asked.choice, asked.supports, asked.query))

    return _png(await _demo(request).computing.run(compute))


async def queue(request: Request) -> Response:
    """How many computations of all pages are going on or wait for their turn."""
    _session(request)
    return JSONResponse({"waiting": _demo(request).computing.waiting})


async def archive(request: Request) -> Response:
    """Everything as a ZIP, by one method with all support images."""
    session = _session(request)
    choice = _choice(request, await _json(request))
    path = session.folder / f"results-{session.new_id()}.zip"

    def compute() -> None:
        with session.writing():
            write_archive(path, choice, session.painted(), list(session.queries.values()), session.predictions)

    await _demo(request).computing.run(compute)
    return FileResponse(path, media_type="application/zip", background=BackgroundTask(path.unlink, missing_ok=True))


def _demo(request: Request) -> Demo:
    demo: Demo = request.app.state.demo
    return demo


def _session(request: Request) -> Session:
    return _demo(request).sessions.find(request.headers.get(TOKEN, ""))


def _require_open(session: Session) -> None:
    """Not to compute for a page that was closed while it waited for its turn."""
    with session.writing():
        pass


def _file_name(request: Request) -> str:
    """The name of the user's file: a header holds ASCII alone, so it comes as percent escapes."""
    return clean_name(unquote(request.headers.get(FILE_NAME, "")))


async def _json(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(await request.body())
    except ValueError as error:
        raise RefusedError("expected JSON", 400) from error
    if not isinstance(content, dict):
        raise RefusedError("expected a JSON object", 400)
    return content


def _choice(request: Request, content: dict[str, Any]) -> MethodChoice:
    choice = _demo(request).choices.get(str(content.get("choice")))
    if choice is None:
        raise RefusedError("there is no such method", 404)
    return choice


async def _asked(request: Request, session: Session) -> Asked:
    content = await _json(request)
    shots = content.get("shots")
    if not isinstance(shots, int) or shots < 0:
        raise RefusedError(f"shots is {shots!r}; expected a number of support images", 400)
    query = session.find("queries", request.path_params["image"])
    supports = session.painted()
    if shots > len(supports):
        raise RefusedError(f"{shots} support images were asked for, and {len(supports)} are painted", 409)
    return Asked(_choice(request, content), supports[:shots], query)


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")


def _shown_mask(mask: NDArray[np.bool_]) -> bytes:
    return mask_png(stretch_labels(mask.astype(np.uint8), shown_size((mask.shape[0], mask.shape[1]))) > 0)
