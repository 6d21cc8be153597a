"""The side-car, asked over HTTP."""

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from trading_app.messages import SIDES, Side


class Totals(NamedTuple):
    """What the side-car has counted, by side; ``volume`` in units traded."""

    trades: dict[Side, float]
    volume: dict[Side, float]


class SidecarAway(Exception):
    """The side-car did not answer, or not as it should."""


class Sidecar:
    """Asks the side-car at ``url`` over one connection, for one thread; ``timeout`` in seconds is for each read.

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

    def totals(self) -> Totals:
        """The totals as of now.

        Raises:
            SidecarAway: it did not answer, or says that it is not well.
        """
        self._get("/health")
        text = self._get("/metrics")
        try:
            samples = {
                (sample.name, sample.labels.get("side")): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            return Totals(
                {side: samples["trades_total", side] for side in SIDES},
                {side: samples["volume_total", side] for side in SIDES},
            )
        except (ValueError, KeyError) as error:
            raise SidecarAway(f"it answers nonsense: {error}") from error

    def next_seq(self, session: str) -> int:
        """The number of the trade that the side-car expects next in a session: all below are committed.

        Raises:
            SidecarAway: it did not answer.
        """
        text = self._get(f"/sessions/{session}")
        try:
            return int(json.loads(text)["next_seq"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise SidecarAway(f"it answers nonsense: {error}") from error

    def close(self) -> None:
        self._connection.close()

    def _get(self, path: str) -> str:
        was_open = self._connection.sock is not None
        try:
            return self._ask(path)
        except ConnectionError as error:
            # A server closes a connection that has been quiet for a while.
            if was_open:
                return self._get(path)
            raise SidecarAway(error.strerror or str(error)) from error
        except (OSError, HTTPException, UnicodeError) as error:
            raise SidecarAway(getattr(error, "strerror", None) or str(error)) from error

    def _ask(self, path: str) -> str:
        try:
            self._connection.request("GET", self._path + path)
            response = self._connection.getresponse()
            body = response.read().decode()
        except BaseException:
            self._connection.close()
            raise
        if response.status != 200:
            raise SidecarAway(f"it answers {response.status}: {body[:200]}")
        return body
