"""An HTTP client that bounds both the time and the size of an answer."""

import io
import time
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from socket import socket
from typing import Any
from urllib.parse import urlsplit

import msgspec

from trading_app.unreachable import Unreachable

_MIB = 1024 * 1024


class _Failing(msgspec.Struct):
    problems: list[str]


class HttpClient:
    """Requests paths below ``url`` over one connection that stays open. For use by one thread.

    ``timeout`` bounds a whole request, in seconds. It does not include the lookup of the host name, and applies to each
    address of the host while connecting.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str, timeout: float = 0.5) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"not an HTTP address: {url} ({error})") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not an HTTP address: {url}")
        connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._path = parts.path.rstrip("/")
        self._timeout = timeout
        try:
            # Without a port, http.client would look for one in the host, and take it from an IPv6 address.
            self._connection = connect(parts.hostname, connect.default_port if port is None else port)
        except InvalidURL as error:
            raise ValueError(f"not an HTTP address: {url} ({error})") from None

    def get(self, path: str, *, max_bytes: int = _MIB) -> str:
        """Return the body of the answer.

        Raises:
            Unreachable: the answer does not come in time, has more than ``max_bytes``, or has a status other than 200.
        """
        deadline = time.monotonic() + self._timeout
        was_open = self._connection.sock is not None
        try:
            try:
                return self._ask(path, deadline, max_bytes)
            except ConnectionError:
                # The server may have closed the connection while it was idle.
                if not was_open:
                    raise
                return self._ask(path, deadline, max_bytes)
        except (OSError, HTTPException, UnicodeError) as error:
            raise Unreachable(_reason(error)) from error

    def close(self) -> None:
        self._connection.close()

    def _ask(self, path: str, deadline: float, max_bytes: int) -> str:
        connection = self._connection
        connection.timeout = _remaining(deadline)
        connection.response_class = partial(_Response, deadline=deadline)  # type: ignore[assignment]
        try:
            if connection.sock:
                connection.sock.settimeout(connection.timeout)
            connection.request("GET", self._path + path)
            with connection.getresponse() as response:
                body = response.read(max_bytes + 1)
        except BaseException:
            connection.close()
            raise
        if len(body) > max_bytes:
            connection.close()
            raise Unreachable(f"the answer has more than {max_bytes:,} bytes")
        # http.client raises nothing for a body that ends before its Content-Length.
        if response.length:
            connection.close()
            raise Unreachable(f"the answer ends {response.length:,} bytes too early")
        if response.status != 200:
            raise Unreachable(f"status {response.status}: {_explanation(body)}")
        return body.decode()


class _Response(HTTPResponse):
    """A response whose bytes must all arrive before ``deadline``, in monotonic time."""

    fp: io.BufferedReader

    def __init__(self, sock: socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach(), deadline))


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_remaining(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _explanation(body: bytes) -> str:
    """The problems that the sidecar reports, or how the answer of another server begins."""
    try:
        problems = "; ".join(msgspec.json.decode(body, type=_Failing).problems)
    except (msgspec.DecodeError, RecursionError):
        problems = ""
    return problems[:1000] or body[:200].decode(errors="replace")


def _remaining(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def _reason(error: Exception) -> str:
    """A short description; never empty."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
