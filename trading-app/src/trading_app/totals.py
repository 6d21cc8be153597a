"""The totals that the sidecar has counted, asked over HTTP."""

from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from trading_app.client import HttpClient, Unreachable
from trading_app.messages import SIDES, Side

_MAX_METRICS = 16 * 1024 * 1024


class Totals(NamedTuple):
    """What the sidecar has counted, by side: of all symbols together.

    ``volume`` in units traded, ``last_trade_ts`` in Unix seconds and 0 before the first, ``lost`` in trades.
    ``delivery`` is the histogram of delivery times: trades that took at most so many seconds, since it started.
    """

    trades: dict[Side, float]
    volume: dict[Side, float]
    last_trade_ts: float
    lost: float
    delivery: dict[float, float]

    @property
    def position(self) -> float:
        """Units bought less units sold."""
        return self.volume["buy"] - self.volume["sell"]


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
            by_side: dict[tuple[str, str | None], float] = {}
            for sample in samples:  # of each symbol, and of trades without one
                key = sample.name, sample.labels.get("side")
                by_side[key] = by_side.get(key, 0.0) + sample.value
            return Totals(
                {side: by_side["trades_total", side] for side in SIDES},
                {side: by_side["volume_total", side] for side in SIDES},
                by_side["last_trade_ts_seconds", None],
                by_side["trades_lost_total", None],
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
