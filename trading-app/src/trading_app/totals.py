"""Fetches the totals that the sidecar has counted."""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from trading_app.client import HttpClient
from trading_app.messages import SIDES, Side
from trading_app.unreachable import Unreachable

_MAX_METRICS = 16 * 1024 * 1024
_BY_SIDE = {"trades_total": 0, "volume_total": 1, "notional_total": 2}


class SideTotals(NamedTuple):
    """The totals of one symbol and side. ``volume`` is in units, ``notional`` the sum of quantity times price."""

    trades: float = 0.0
    volume: float = 0.0
    notional: float = 0.0


class Totals(NamedTuple):
    """All that the sidecar has counted.

    ``by_symbol`` holds trades without a symbol under "". ``last_trade_ts`` is in Unix seconds, 0 before the first
    trade. ``lost`` is a number of trades. ``delivery`` is the histogram of delivery times since the sidecar started: it
    maps an upper bound in seconds to the number of trades that took at most as long.
    """

    by_symbol: dict[str, dict[Side, SideTotals]]
    last_trade_ts: float
    lost: float
    delivery: dict[float, float]

    def trades(self, side: Side) -> float:
        """The number of trades on one side, over all symbols."""
        return sum(by_side[side].trades for by_side in self.by_symbol.values())

    def position(self, symbol: str) -> float:
        """Units bought minus units sold."""
        by_side = self.by_symbol.get(symbol)
        return by_side["buy"].volume - by_side["sell"].volume if by_side else 0.0


class TotalsClient:
    """Fetches totals from the sidecar at ``url``. For use by one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)

    def ask(self) -> Totals:
        """Return the current totals.

        Raises:
            Unreachable: the sidecar did not answer with its metrics, or its health check failed.
        """
        self._client.get("/health")
        text = self._client.get("/metrics", max_bytes=_MAX_METRICS)
        try:
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
            single = {sample.name: sample.value for sample in samples if not sample.labels}
            return Totals(
                _by_symbol(samples),
                single["last_trade_ts_seconds"],
                single["trades_lost_total"],
                {
                    float(sample.labels["le"]): sample.value
                    for sample in samples
                    if sample.name == "trade_delivery_seconds_bucket"
                },
            )
        except (ValueError, LookupError) as error:
            raise Unreachable(f"the answer is not the sidecar's metrics: {error}") from error

    def close(self) -> None:
        self._client.close()


def _by_symbol(samples: Iterable[Sample]) -> dict[str, dict[Side, SideTotals]]:
    values: dict[str, dict[str, list[float]]] = {}
    for name, labels, value, *_ in samples:
        if name in _BY_SIDE:
            of_symbol = values.setdefault(labels.get("symbol", ""), {side: [0.0, 0.0, 0.0] for side in SIDES})
            of_symbol[labels["side"]][_BY_SIDE[name]] = value
    if not values:
        raise KeyError("trades_total")
    return {
        symbol: {side: SideTotals(*of_symbol[side]) for side in SIDES} for symbol, of_symbol in sorted(values.items())
    }
