"""The page's requests: each function answers one kind."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from episodes.images.spacing import Spacing
from episodes.io.yaml_json import parse_json
from fewshot import __version__
from fewshot.demo.answers import QueryPrediction
from fewshot.demo.choices import MethodChoice
from fewshot.demo.guard import JSON_BYTES
from fewshot.demo.images import RefusedError, painted_mask
from fewshot.demo.responses import (
    heat_png,
    image_json,
    image_png,
    outline_json,
    prediction_json,
    shown_mask_png,
    write_archive,
)
from fewshot.demo.sessions import Kind, Session, Sessions, clean_name, receive, take_image, take_mask, take_painting

TOKEN = "fewshot-session"  # noqa: S105 - the header's name
FILE_NAME = "fewshot-file"

Result = TypeVar("Result")


class Worker:
    """A named thread that does one thing after another; `waiting` counts those being done or waiting to be."""

    def __init__(self, name: str) -> None:
        self.waiting = 0
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function when its turn comes, and wait for what it returns or raises."""
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self.waiting -= 1

    def stop(self) -> None:
        """Begin nothing more; what is being done is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Demo:
    """The state that the requests of all pages share."""

    choices: dict[str, MethodChoice]  # by id
    sessions: Sessions
    computing: Worker  # does what needs a network
    decoding: Worker  # does what needs a file's pixels


async def begin(request: Request) -> Response:
    """Open a page: give its token, what it may choose from, and its limits."""
    demo = _demo(request)
    session = demo.sessions.open()
    choices = [choice.as_json() for choice in demo.choices.values()]
    facts = {"token": session.token, "version": __version__, "choices": choices, "limits": asdict(session.limits)}
    return JSONResponse(facts)


async def end(request: Request) -> Response:
    """Close a page; a browser's last word carries no header, so the token is the body."""
    body = await _small_body(request)
    _demo(request).sessions.close(body.decode("ascii", "replace"))
    return Response(status_code=204)


async def add_image(request: Request, kind: Kind) -> Response:
    """Take in a file as one of the `supports` or `queries`."""
    session, name = _session(request), _file_name(request)
    session.check_room(kind)
    upload = await _upload(request, session, name)
    image = await _demo(request).decoding.run(take_image, upload, session, name)
    session.add(kind, image)
    return JSONResponse(image_json(image))


async def remove_image(request: Request, kind: Kind) -> Response:
    """Delete one of the `supports` or `queries`."""
    _session(request).remove(kind, request.path_params["image"])
    return Response(status_code=204)


async def show_image(request: Request, kind: Kind) -> Response:
    """Show one of the `supports` or `queries`."""
    image = _session(request).find(kind, request.path_params["image"])
    return _png(await _demo(request).decoding.run(image_png, image))


async def show_painting(request: Request) -> Response:
    """Show what is painted on a support image, at the size at which it is shown."""
    image = _session(request).find("supports", request.path_params["image"])
    if image.mask is None:
        raise RefusedError(f"{image.name}: nothing is painted yet", 404)
    return _png(shown_mask_png(painted_mask(image.mask)))


async def paint(request: Request) -> Response:
    """Take in what was painted on a support image."""
    demo, session = _demo(request), _session(request)
    image = session.find("supports", request.path_params["image"])
    upload = await _upload(request, session, "painting.png")
    mask = await demo.decoding.run(take_painting, upload, session, image)
    return JSONResponse({"outline": outline_json(mask), "area": int(mask.sum()), "coverage": float(mask.mean())})


async def read_mask(request: Request) -> Response:
    """Show a mask file for a support image, to be looked at before it counts as painted."""
    session, name = _session(request), _file_name(request)
    image = session.find("supports", request.path_params["image"])
    upload = await _upload(request, session, name)
    return _png(shown_mask_png(await _demo(request).decoding.run(take_mask, upload, session, name, image)))


async def answer(request: Request) -> Response:
    """Segment an image by a method with the first so many support images, and say what is known of the mask."""
    return JSONResponse(await _predict(request, prediction_json))


async def heat_map(request: Request) -> Response:
    """Show the probabilities behind such a mask."""
    return _png(await _predict(request, lambda prediction, *_: heat_png(prediction.found.probability)))


async def queue(request: Request) -> Response:
    """Say how many computations of all pages are going on or wait for their turn."""
    _session(request)
    return JSONResponse({"waiting": _demo(request).computing.waiting})


async def archive(request: Request) -> Response:
    """Give everything as a ZIP, by one method with all support images."""
    session = _session(request)
    choice = _choice(request, await _json(request))
    path = session.folder / f"results-{session.new_id()}.zip"

    def compute() -> None:
        with session.writing():
            write_archive(path, choice, session.painted(), list(session.queries.values()), session.predictions)

    await _demo(request).computing.run(compute)
    return FileResponse(path, media_type="application/zip", background=BackgroundTask(path.unlink, missing_ok=True))


async def _predict(request: Request, describe: Callable[[QueryPrediction, int, Spacing | None], Result]) -> Result:
    """Segment the image that is asked for, and describe the prediction, by its number of support images as well."""
    session, content = _session(request), await _json(request)
    shots = content.get("shots")
    if not isinstance(shots, int) or shots < 0:
        raise RefusedError(f"shots is {shots!r}; expected a number of support images", 400)
    query = session.find("queries", request.path_params["image"])
    supports = session.painted()
    if shots > len(supports):
        raise RefusedError(f"{shots} support images were asked for, and {len(supports)} are painted", 409)
    choice = _choice(request, content)

    def compute() -> Result:
        session.require_open()  # the page may have been closed while this waited for its turn
        return describe(session.predictions.predict(choice, supports[:shots], query), shots, query.spacing)

    return await _demo(request).computing.run(compute)


def _demo(request: Request) -> Demo:
    demo: Demo = request.app.state.demo
    return demo


def _session(request: Request) -> Session:
    return _demo(request).sessions.find(request.headers.get(TOKEN, ""))


def _file_name(request: Request) -> str:
    """Return the name of the user's file: a header holds ASCII alone, so it comes as percent escapes."""
    return clean_name(unquote(request.headers.get(FILE_NAME, "")))


async def _upload(request: Request, session: Session, name: str) -> Path:
    """Write a request's file to the session's folder, unless it declares too many bytes."""
    session.limits.check_file(int(request.headers.get("content-length", 0)), name)
    return await receive(request.stream(), session, name)


async def _small_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > JSON_BYTES:
            raise RefusedError(f"larger than {JSON_BYTES // 1024} KB; send less", 413)
    return bytes(body)


async def _json(request: Request) -> dict[str, Any]:
    try:
        content = parse_json((await _small_body(request)).decode())
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


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")
