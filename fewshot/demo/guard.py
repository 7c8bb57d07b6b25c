"""Who may talk to the server, and what a browser may do with its answers."""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
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


def is_loopback(host: str) -> bool:
    """Whether a name or address means this computer alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.2", "scanner")]
    [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def may_be_called(name: str, host: str) -> bool:
    """Whether requests may call the server by a name.

    A page of anybody's may let its own domain's name point to this computer and then ask in that name (DNS
    rebinding). Addresses cannot be redirected, so all are good if the server listens to the network.

    Args:
        name: from the Host header, without the port.
        host: where the server listens.
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
    """Turn away what comes from other pages, and tell the browser what this one may do.

    Args:
        app: what is guarded.
        host: where the server listens.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        self.host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        complaint = self._complaint(Headers(scope=scope))
        app = self.app if complaint is None else JSONResponse({"error": complaint}, status_code=403)
        await app(scope, receive, send_guarded)

    def _complaint(self, headers: Headers) -> str | None:
        called = headers.get("host", "")
        if not may_be_called(_hostname(called) or "", self.host):
            return "this server does not answer to that name; open the address that it has printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != called:
            return "requests of other pages are not served"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "requests of other pages are not served"
        return None


def _hostname(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None
