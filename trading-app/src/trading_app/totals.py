"""The totals that the sidecar has counted, asked over HTTP."""

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
    """Of one symbol and side: ``volume`` in units, ``notional`` the sum of quantity times price."""

    trades: float = 0.0
    volume: float = 0.0
    notional: float = 0.0


class Totals(NamedTuple):
    """What the sidecar has counted.

    ``by_symbol`` has "" for trades without a symbol. ``last_trade_ts`` in Unix seconds and 0 before the first, ``lost``
    in trades. ``delivery`` is the histogram of delivery times: trades that took at most so many seconds, since it
    started.
    """

    by_symbol: dict[str, dict[Side, SideTotals]]
    last_trade_ts: float
    lost: float
    delivery: dict[float, float]

    def trades(self, side: Side) -> float:
        """The trades of all symbols."""
        return sum(by_side[side].trades for by_side in self.by_symbol.values())

    def position(self, symbol: str) -> float:
        """Units bought less units sold."""
        by_side = self.by_symbol.get(symbol)
        return by_side["buy"].volume - by_side["sell"].volume if by_side else 0.0


class TotalsClient:
    """Asks the sidecar at ``url``, for one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)

    def ask(self) -> Totals:
        """The totals as of now.

        Raises:
            Unreachable: it did not answer, or says that it is not well.
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
        except (ValueError, KeyError) as error:
            raise Unreachable(f"it answers nonsense: {error}") from error

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
