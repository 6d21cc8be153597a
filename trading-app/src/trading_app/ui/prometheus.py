"""A client of Prometheus' HTTP API."""

import json
import time
from urllib.parse import urlencode

from trading_app.client import HttpClient
from trading_app.messages import SIDES
from trading_app.ui.history import Point, Value
from trading_app.unreachable import Unreachable

_RATE = 'sum(rate(trades_total{side="%s"}[10s]))'
_POSITION = 'sum(volume_total{side="buy",symbol="%s"}) - sum(volume_total{side="sell",symbol="%s"})'


class Prometheus:
    """Queries the Prometheus at ``url``. For use by one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)

    def sees_sidecar(self) -> bool:
        """Whether its last scrape of the sidecar succeeded.

        Raises:
            Unreachable: no answer, or not the expected one.
        """
        return any(value == 1 for _, value in self._ask("query", query='up{job="metrics-sidecar"}'))

    def points(self, seconds: float, step: float) -> list[Point]:
        """The rates of the last ``seconds``, one point every ``step`` seconds.

        Raises:
            Unreachable: no answer, or not the expected one.
        """
        rates = {side: dict(self._range(_RATE % side, seconds, step)) for side in SIDES}
        times = sorted({at for of_side in rates.values() for at in of_side})
        return [Point(at, {side: rates[side].get(at, 0.0) for side in SIDES}) for at in times]

    def positions(self, symbol: str, seconds: float, step: float) -> list[Value]:
        """The net position in a symbol, "" for trades without one, over the last ``seconds``.

        Raises:
            Unreachable: no answer, or not the expected one.
        """
        return [Value(*sample) for sample in self._range(_POSITION % (symbol, symbol), seconds, step)]

    def close(self) -> None:
        self._client.close()

    def _range(self, query: str, seconds: float, step: float) -> list[tuple[float, float]]:
        now = time.time() // step * step
        return self._ask("query_range", query=query, start=now - seconds, end=now, step=step)

    def _ask(self, what: str, **parameters: str | float) -> list[tuple[float, float]]:
        """Unix times and values of all series in the answer."""
        text = self._client.get(f"/api/v1/{what}?{urlencode(parameters)}")
        try:
            return [
                (float(at), float(value))
                for series in json.loads(text)["data"]["result"]
                for at, value in series.get("values") or [series["value"]]
            ]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Unreachable(f"unexpected answer: {type(error).__name__}") from error
