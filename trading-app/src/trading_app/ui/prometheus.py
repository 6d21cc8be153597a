"""Prometheus, asked over HTTP."""

import json
import time
from typing import Any
from urllib.parse import urlencode

from trading_app.client import Away, Client
from trading_app.messages import SIDES
from trading_app.ui.history import Point

_RATES = "sum by (side) (rate(trades_total[10s]))"
_POSITION = 'sum(volume_total{side="buy"}) - sum(volume_total{side="sell"})'


class Prometheus:
    """Asks the Prometheus at ``url``, for one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = Client(url)

    def sees_sidecar(self) -> bool:
        """Whether its last scrape of the side-car succeeded.

        Raises:
            Away: it did not answer.
        """
        return any(series["value"][1] == "1" for series in self._ask("query", query='up{job="metrics-sidecar"}'))

    def points(self, seconds: float, step: float) -> list[Point]:
        """The last ``seconds``, a point every ``step`` seconds.

        Raises:
            Away: it did not answer.
        """
        now = time.time() // step * step
        span = {"start": now - seconds, "end": now, "step": step}
        rates = {
            series["metric"].get("side"): _values(series) for series in self._ask("query_range", query=_RATES, **span)
        }
        return [
            Point(at, {side: rates.get(side, {}).get(at, 0.0) for side in SIDES}, position)
            for series in self._ask("query_range", query=_POSITION, **span)
            for at, position in _values(series).items()
        ]

    def close(self) -> None:
        self._client.close()

    def _ask(self, what: str, **parameters: str | float) -> list[dict[str, Any]]:
        text = self._client.get(f"/api/v1/{what}?{urlencode(parameters)}")
        try:
            result: list[dict[str, Any]] = json.loads(text)["data"]["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise Away(f"it answers nonsense: {error}") from error
        return result


def _values(series: dict[str, Any]) -> dict[float, float]:
    return {float(at): float(value) for at, value in series["values"]}
