"""An ASGI middleware that refuses requests from other websites, to unknown hosts and with large bodies."""

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 64 * 1024
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^\s:/?#@\[\]\\]+))(?::\d+)?", re.ASCII | re.IGNORECASE)


class Refusal(Exception):
    """A request is refused with this status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """Passes requests and WebSockets to ``app``, unless a page of another website may have made them.

    A browser sends requests on behalf of any page, and any site can point its own name at this server (DNS rebinding).
    Therefore the host must be an IP address, a name without a dot, or one of ``allowed_hosts``, and the origin, if any,
    must match that host or one of ``allowed_origins``. Other sites may link here but not frame these pages.

    The whole body, at most `MAX_BODY` bytes, is read before ``app`` is called.
    """

    def __init__(
        self, app: ASGIApp, *, allowed_hosts: Collection[str] = (), allowed_origins: Collection[str] = ()
    ) -> None:
        self._app = app
        self._hosts = frozenset(allowed_hosts)
        self._origins = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        send = _with_security_headers(send)
        try:
            self._check(scope)
            if scope["type"] == "http":
                receive = await _with_body(scope, receive)
        except Refusal as refusal:
            await JSONResponse({"detail": str(refusal)}, refusal.status)(scope, receive, send)
        except ConnectionAbortedError:
            return
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if not host:
            raise Refusal(400, "exactly one valid Host header is required")
        if not self._knows(host["ipv6"] or host["name"].lower()):
            raise Refusal(421, f"unknown host {hosts[0]}: use an IP address, localhost or an allowed name")
        if not self._is_ours(scope.get("method", "GET"), headers):
            raise Refusal(403, "requests from other websites are refused")

    def _knows(self, name: str) -> bool:
        try:
            ip_address(name)
        except ValueError:
            return "." not in name or name in self._hosts
        return True

    def _is_ours(self, method: str, headers: Headers) -> bool:
        if origin := headers.get("origin"):
            return origin in self._origins or origin.partition("://")[2] == headers["host"]
        if headers.get("sec-fetch-site", "none") in {"same-origin", "none"}:
            return True
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return is_link and method in {"GET", "HEAD"}


async def _with_body(scope: Scope, receive: Receive) -> Receive:
    """Read the body, and return a `Receive` that replays it.

    Raises:
        Refusal: the body has more than `MAX_BODY` bytes.
        ConnectionAbortedError: the client disconnected before the end of the body.
    """
    too_large = Refusal(413, f"the body has more than {MAX_BODY} bytes")
    if int(Headers(scope=scope).get("content-length", "0")) > MAX_BODY:
        raise too_large
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise too_large
        more = message.get("more_body", False)
    unread: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay


def _with_security_headers(send: Send) -> Send:
    """Add headers that keep browsers from framing the response or guessing its type."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = "frame-ancestors 'none'"
            headers["X-Frame-Options"] = "DENY"
            headers["X-Content-Type-Options"] = "nosniff"
        await send(message)

    return send_with_headers
