"""Who may ask over HTTP: an ASGI middleware that refuses other web sites, unknown hosts and large bodies."""

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 64 * 1024
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^\s:/?#@\[\]\\]+))(?::\d+)?", re.ASCII | re.IGNORECASE)


class Refusal(Exception):
    """A request that is not served: the status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """Passes requests and WebSockets on to ``app``, unless a web page that is not ours may have made them.

    A browser sends requests for every page it shows, and any site can let a name of its own lead here. So the host must
    be an IP address, a name without a dot, or one of ``allowed_hosts``, and a page that asks must come from that host
    or from one of ``allowed_origins``. Links from elsewhere work, frames do not.

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
        send = _without_frames(send)
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
            raise Refusal(400, "one valid Host header is needed")
        if not self._knows(host["ipv6"] or host["name"].lower()):
            raise Refusal(421, f"unknown host {hosts[0]}: use an IP address, localhost or an allowed name")
        if not self._is_ours(scope.get("method", "GET"), headers):
            raise Refusal(403, "requests from other web sites are refused")

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
    """Read the body, and return what hands it over.

    Raises:
        Refusal: it has more than `MAX_BODY` bytes.
        ConnectionAbortedError: the client went away before its end.
    """
    too_large = Refusal(413, f"the body may have up to {MAX_BODY} bytes")
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

    async def hand_over() -> Message:
        return unread.pop() if unread else await receive()

    return hand_over


def _without_frames(send: Send) -> Send:
    """Tell browsers that no page may frame what is sent."""

    async def send_without_frames(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = "frame-ancestors 'none'"
            headers["X-Frame-Options"] = "DENY"
            headers["X-Content-Type-Options"] = "nosniff"
        await send(message)

    return send_without_frames
