"""A neighbour, asked over HTTP."""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit


class Unreachable(Exception):
    """It did not answer, or not as it should."""


class HttpClient:
    """Asks the neighbour at ``url`` over one connection, for one thread; ``timeout`` in seconds is for each read.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str, timeout: float = 0.5) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not an HTTP address: {url}")
        connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._path = parts.path.rstrip("/")
        self._connection = connect(parts.hostname, parts.port, timeout=timeout)

    def get(self, path: str) -> str:
        """The body of the answer.

        Raises:
            Unreachable: it did not answer, or with another status than 200.
        """
        was_open = self._connection.sock is not None
        try:
            return self._ask(path)
        except ConnectionError as error:
            # A server closes a connection that has been quiet for a while.
            if was_open:
                return self.get(path)
            raise Unreachable(_reason(error)) from error
        except (OSError, HTTPException, UnicodeError) as error:
            raise Unreachable(_reason(error)) from error

    def close(self) -> None:
        self._connection.close()

    def _ask(self, path: str) -> str:
        try:
            self._connection.request("GET", self._path + path)
            response = self._connection.getresponse()
            body = response.read().decode()
        except BaseException:
            self._connection.close()
            raise
        if response.status != 200:
            raise Unreachable(f"it answers {response.status}: {body[:200]}")
        return body


def _reason(error: Exception) -> str:
    """In a few words, never in none."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
