"""The page's server: its routes, its errors, and what it tidies up."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from episodes.errors import UserError
from fewshot.demo import requests
from fewshot.demo.choices import Choice
from fewshot.demo.guard import Guard
from fewshot.demo.limits import RefusedError
from fewshot.demo.sessions import Sessions
from fewshot.demo.worker import Worker

PAGE = Path(__file__).parent / "page"

# Between looks for sessions that were not used for long.
TIDYING_SECONDS = 20.0


ROUTES = [
    Route("/session", requests.begin, methods=["POST"]),
    Route("/session/end", requests.end, methods=["POST"]),
    Route("/supports/{image}/mask", requests.painted, methods=["GET"]),
    Route("/supports/{image}/mask", requests.paint, methods=["PUT"]),
    Route("/supports/{image}/mask-file", requests.read_mask, methods=["POST"]),
    Route("/queries/{image}/answer", requests.answer, methods=["POST"]),
    Route("/queries/{image}/heat", requests.heat_map, methods=["POST"]),
    Route("/queue", requests.queue, methods=["GET"]),
    Route("/archive", requests.archive, methods=["POST"]),
    *(
        route
        for kind in ("supports", "queries")
        for route in (
            Route(f"/{kind}", requests.adder(kind), methods=["POST"]),
            Route(f"/{kind}/{{image}}", requests.remover(kind), methods=["DELETE"]),
            Route(f"/{kind}/{{image}}/picture", requests.picture_of(kind), methods=["GET"]),
        )
    ),
    Mount("/", StaticFiles(directory=PAGE, html=True)),
]


def build_app(choices: Sequence[Choice], sessions: Sessions, host: str = "127.0.0.1") -> Starlette:
    """The server of the page.

    Args:
        choices: methods to choose from.
        sessions: where uploads are kept; all are closed when the server stops.
        host: where it will listen.
    """
    demo = requests.Demo({choice.id: choice for choice in choices}, sessions, Worker("computing"), Worker("decoding"))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        tidying = asyncio.create_task(_tidy(sessions))
        try:
            yield
        finally:
            tidying.cancel()
            with suppress(asyncio.CancelledError):
                await tidying
            sessions.close_all()
            demo.computing.stop()
            demo.decoding.stop()

    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={UserError: _refuse, HTTPException: _refuse_request, Exception: _fail},
        lifespan=lifespan,
    )
    app.state.demo = demo
    return app


async def _tidy(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(TIDYING_SECONDS)
        sessions.expire()


async def _refuse(request: Request, error: Exception) -> Response:
    del request
    return JSONResponse({"error": str(error)}, error.code if isinstance(error, RefusedError) else 422)


async def _refuse_request(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    del request, error  # the server logs it
    return JSONResponse({"error": "a fault of the program; the terminal where it runs says more"}, 500)
