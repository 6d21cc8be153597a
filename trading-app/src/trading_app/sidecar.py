"""The side-car, asked over HTTP."""

from http.client import HTTPException
from typing import NamedTuple
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

from trading_app.messages import SIDES, Side


class Totals(NamedTuple):
    """What the side-car has counted, by side; ``volume`` in units traded."""

    trades: dict[Side, float]
    volume: dict[Side, float]


class SidecarAway(Exception):
    """The side-car did not answer, or not as it should."""


class Sidecar:
    """Asks the side-car at ``url``, waiting ``timeout`` seconds at the most for an answer."""

    def __init__(self, url: str, timeout: float = 0.5) -> None:
        self.url = url
        self._timeout = timeout
        # The side-car is a neighbour: a proxy meant for the world outside would not find it.
        self._opener = build_opener(ProxyHandler({}))

    def totals(self) -> Totals:
        """The totals as of now.

        Raises:
            SidecarAway: it did not answer.
        """
        try:
            with self._opener.open(f"{self.url}/metrics", timeout=self._timeout) as response:
                text = response.read().decode()
            samples = {
                (sample.name, sample.labels.get("side")): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            return Totals(
                {side: samples["trades_total", side] for side in SIDES},
                {side: samples["volume_total", side] for side in SIDES},
            )
        except (OSError, HTTPException, ValueError, KeyError) as error:
            raise SidecarAway(str(error)) from error
