"""A stand-in for the service on this machine, which answers what saving a report asks."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VIEWER = {
    "viewer": {"id": "u", "entity": "clinic", "username": "us", "email": "", "admin": False, "flags": "{}"}
    | {"teams": {"edges": []}, "apiKeys": {"edges": []}}
}
PROJECT = {"id": "p", "name": "fewshot-bus", "entityName": "clinic", "createdAt": "2026-01-01T00:00:00"}
PROJECTS = {
    "models": {
        "edges": [{"node": {**PROJECT, "isBenchmark": False, "user": None}, "cursor": "c"}],
        "pageInfo": {"endCursor": "c", "hasNextPage": False},
    }
}


@dataclass
class Service:
    """What the service was asked to save.

    Attributes:
        url: of the service.
        saved: the variables of every report.
    """

    url: str = ""
    saved: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data for a query."""
        if "upsertView" in query:
            self.saved.append(variables)
            shown = {name: variables[name] for name in ("type", "name", "displayName", "description", "spec")}
            project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            view = {**shown, "id": "Vmlldzox", "project": project, "updatedAt": "2026-01-01T00:00:00"}
            return {"upsertView": {"view": view, "inserted": True}}
        return PROJECTS if "GetProjects" in query else VIEWER


@contextmanager
def running_service() -> Iterator[Service]:
    """A service for as long as the block runs."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = service.answer(asked["query"].split("{")[0], asked.get("variables") or {})
            content = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield service
        server.shutdown()
        thread.join()
