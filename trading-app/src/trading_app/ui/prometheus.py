"""Prometheus, asked over HTTP."""

import json
import time
from urllib.parse import urlencode

from trading_app.client import HttpClient, Unreachable
from trading_app.messages import SIDES
from trading_app.ui.history import Point

_RATE = 'sum(rate(trades_total{side="%s"}[10s]))'
_POSITION = 'sum(volume_total{side="buy"}) - sum(volume_total{side="sell"})'


class Prometheus:
    """Asks the Prometheus at ``url``, for one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)

    def sees_sidecar(self) -> bool:
        """Whether its last scrape of the side-car succeeded.

        Raises:
            Unreachable: it did not answer, or not as it should.
        """
        return any(value == 1 for _, value in self._ask("query", query='up{job="metrics-sidecar"}'))

    def points(self, seconds: float, step: float) -> list[Point]:
        """The last ``seconds``, a point every ``step`` seconds.

        Raises:
            Unreachable: it did not answer, or not as it should.
        """
        now = time.time() // step * step
        span = {"start": now - seconds, "end": now, "step": step}
        rates = {side: dict(self._ask("query_range", query=_RATE % side, **span)) for side in SIDES}
        return [
            Point(at, {side: rates[side].get(at, 0.0) for side in SIDES}, position)
            for at, position in self._ask("query_range", query=_POSITION, **span)
        ]

    def close(self) -> None:
        self._client.close()

    def _ask(self, what: str, **parameters: str | float) -> list[tuple[float, float]]:
        """Unix times and values, of all series of the answer."""
        text = self._client.get(f"/api/v1/{what}?{urlencode(parameters)}")
        try:
            return [
                (float(at), float(value))
                for series in json.loads(text)["data"]["result"]
                for at, value in series.get("values") or [series["value"]]
            ]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Unreachable(f"it answers nonsense: {type(error).__name__}") from error
