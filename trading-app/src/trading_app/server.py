"""The HTTP server: uvicorn, with limits on what a single client can cost."""

import asyncio
import logging.config
import resource
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import LOGGING_CONFIG
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD = 64 * 1024
MAX_MESSAGE = 1024 * 1024
MAX_WEBSOCKETS = 100
REQUEST_SECONDS = 10.0
# Time for the client to read a refusal before its connection is reset.
_LINGER_SECONDS = 1.0
_LOG_SECONDS = 10.0


class BoundedProtocol(HttpToolsProtocol):
    """A connection that limits each request: `REQUEST_SECONDS` to arrive, body included, and `MAX_HEAD` bytes of head.

    When there are too many connections, the one that has been idle longest is closed. WebSockets are used while they
    are idle, so beyond `MAX_WEBSOCKETS` new ones are refused.
    """

    # Open connections, the longest idle first.
    _by_activity: ClassVar[dict["BoundedProtocol", None]] = {}
    _websockets: ClassVar[list[asyncio.Transport]] = []
    _deadline: asyncio.TimerHandle | None = None
    _refused = False
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._by_activity[self] = None
        self._expect_request()
        if len(self._by_activity) > _max_connections():
            longest_idle = next(iter(self._by_activity))
            del self._by_activity[longest_idle]
            longest_idle.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._by_activity.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._by_activity[self] = self._by_activity.pop(self, None)
        self._expect_request()
        self._head_bytes += len(data)
        super().data_received(data)
        # The parser buffers an incomplete header without a limit.
        if self._in_head and self._head_bytes > MAX_HEAD:
            self._refuse(431, "The request's head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_request()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD:
            self._refuse(431, "The request's head is too large.")
            raise ValueError("too large")  # The parser stops here.
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._cancel_deadline()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._by_activity.pop(self, None)
        self._websockets[:] = [transport for transport in self._websockets if not transport.is_closing()]
        if len(self._websockets) >= MAX_WEBSOCKETS:
            self._refuse(503, "Too many WebSockets are open.")
            return
        self._websockets.append(self.transport)
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def shutdown(self) -> None:
        if self._deadline:
            self.transport.close()  # Do not wait for the rest of an incomplete request.
        else:
            super().shutdown()

    def _refuse(self, status: int, reason: str) -> None:
        """Send an error and keep reading for a moment: closing at once would reset the connection before it arrives."""
        if self._refused:
            return
        self._refused = True
        self._cancel_deadline()
        self._deadline = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
        body = reason.encode()
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.write_eof()

    def _expect_request(self) -> None:
        if not self._deadline:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None


def _max_connections() -> int:
    """A limit that leaves file descriptors for files and ZeroMQ."""
    return min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


class RateLimit(logging.Filter):
    """Passes the same warning or error once in 10 s, so that strangers cannot fill the disk with log lines."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind = f"{record.name}: {record.msg}".partition("\n")[0]
        now = time.monotonic()
        if now - self._logged_at.get(kind, -_LOG_SECONDS) < _LOG_SECONDS:
            return False
        self._logged_at[kind] = now
        return True


def _log_config() -> dict[str, Any]:
    """uvicorn's logging configuration, extended to asyncio and this program; what strangers cause is rate-limited."""
    handlers = LOGGING_CONFIG["handlers"]
    return {
        **LOGGING_CONFIG,
        "filters": {"rate_limit": {"()": RateLimit}},
        "handlers": {
            **handlers,
            "default": {**handlers["default"], "filters": ["rate_limit"]},
            "program": handlers["default"],
        },
        "loggers": {
            **LOGGING_CONFIG["loggers"],
            "asyncio": {"handlers": ["default"], "propagate": False},
            __package__: {"handlers": ["program"], "level": "INFO", "propagate": False},
        },
    }


def configure_logging() -> None:
    """Log the messages of this program as uvicorn logs its own, from now on and not only once it serves."""
    logging.config.dictConfig(_log_config())


def listen(
    app: ASGIApp | str, host: str, port: int, *, reload_dirs: Sequence[str] = ()
) -> tuple[uvicorn.Server, socket.socket]:
    """Return a server for ``app`` and its bound socket. ``app`` may be the import string of a factory."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config = uvicorn.Config(
        app,
        factory=isinstance(app, str),
        host=host,
        port=port,
        reload=bool(reload_dirs),
        reload_dirs=list(reload_dirs) or None,
        http=BoundedProtocol,
        ws_max_size=MAX_MESSAGE,
        # Streamlit sends many small messages. Compressing each costs more than it saves.
        ws_per_message_deflate=False,
        # asyncio accepts up to a whole backlog before the first connection is counted.
        backlog=_max_connections() // 2,
        log_config=_log_config(),
        # Prometheus makes a request every second.
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    listening = config.bind_socket()
    # asyncio sets this only on sockets it creates. Without it the second part of an answer waits 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return uvicorn.Server(config), listening


def run(app: ASGIApp | str, host: str, port: int) -> None:
    """Serve ``app`` until SIGINT or SIGTERM. ``app`` may be the import string of a factory."""
    server, listening = listen(app, host, port)
    with suppress(KeyboardInterrupt):
        server.run([listening])
    if not server.started:
        sys.exit(3)
