"""Who may talk to the page's server, and what browsers may do with its answers."""

import ipaddress
import socket
from hashlib import sha256
from secrets import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing but this server's own files runs or is shown; `blob:` are pictures that the page has fetched from it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

ACCESS = "access"
"""The part of the printed address that holds the access token."""


def is_loopback(host: str) -> bool:
    """Tell whether a name or address means this computer alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.2", "scanner")]
    [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def may_be_called(name: str, host: str) -> bool:
    """Tell whether requests may call a server that listens at a host by a name, as in the Host header without its port.

    A page of anybody's may let its own domain's name point to this computer and then ask in that name (DNS
    rebinding). Addresses cannot be redirected, so all are good if the server listens to the network.
    """
    if is_loopback(name):
        return True
    if is_loopback(host):
        return False
    if name.lower() in (host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware that turns away other pages and whoever lacks the access token, and tells browsers what is allowed.

    The token, None where none is asked for, comes once in the address that the terminal shows, and in a cookie from
    then on: an address is seen by onlookers, and kept in the browser's history.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None = None) -> None:
        self.app = app
        self.host = host
        self.token = token
        # Cookies are shared by all servers of a computer, whatever their ports.
        self.cookie = f"fewshot-{sha256((token or '').encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return what a request is answered in place of the page; None if it may have what it asks for."""
        headers = Headers(scope=scope)
        called = headers.get("host", "")
        if not may_be_called(_hostname(called), self.host):
            complaint = "this server does not answer to that name; open the address that it has printed"
            return JSONResponse({"error": complaint}, 403)
        origin = headers.get("origin")
        of_others = origin is not None and _netloc(origin) != called
        if of_others or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return JSONResponse({"error": "requests of other pages are not served"}, 403)
        if self.token is None or self._is_token(cookie_parser(headers.get("cookie", "")).get(self.cookie, "")):
            return None
        if scope["path"] == "/" and self._is_token(QueryParams(scope["query_string"]).get(ACCESS, "")):
            welcome = RedirectResponse("/", 303)
            welcome.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return welcome
        return JSONResponse({"error": "open the whole address that the server has printed, with its access token"}, 401)

    def _is_token(self, given: str) -> bool:
        """Compare in a time that says nothing of how much is right."""
        return compare_digest(given.encode(errors="replace"), (self.token or "").encode())


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""
