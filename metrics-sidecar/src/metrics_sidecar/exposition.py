"""Renders a snapshot of the engine as Prometheus metrics."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from metrics_sidecar.histogram import Histogram
from metrics_sidecar.ledger import Totals
from metrics_sidecar.messages import Reason
from metrics_sidecar.tallies import Series

# Creation time of the counters that do not survive the process.
_STARTED = time.time()
_process = CollectorRegistry()
ProcessCollector(registry=_process)
PlatformCollector(registry=_process)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine's numbers at one instant. ``totals`` are committed; all other counts start with the process."""

    totals: Totals
    received: int
    rejected: dict[Reason, int]
    duplicates: int
    out_of_sequence: int
    sessions: int
    delivery: Histogram
    commit_seconds: Histogram
    commit_failures: int
    refused: int


def render(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """Return body and content type: the text format, or OpenMetrics if the ``Accept`` header asks for it.

    OpenMetrics output has a ``_created`` sample, in Unix seconds, for each counter and histogram.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # The version in the header is not a number.
        encode, content_type = choose_encoder("")
    is_text = content_type.startswith("text/plain")
    return encode(_SnapshotCollector(snapshot, with_created=not is_text)), content_type


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: Snapshot, *, with_created: bool) -> None:
        self._snapshot = snapshot
        self._with_created = with_created

    def collect(self) -> Iterator[Metric]:
        for family in chain(_families(self._snapshot), _of_process()):
            if not self._with_created:  # The text format would expose these samples as gauges.
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def _families(snapshot: Snapshot) -> Iterator[Metric]:
    totals = snapshot.totals
    yield _sums("trades", "Trades counted.", totals, lambda series: series.trades)
    yield _sums(
        "volume", "Sum of the quantities of the trades counted, in units traded.", totals, lambda series: series.volume
    )
    yield _sums(
        "notional",
        "Sum of quantity times price of the trades counted that carry a price.",
        totals,
        lambda series: series.notional,
    )
    yield GaugeMetricFamily(
        "last_trade_ts_seconds",
        "Unix time of the trade counted last, as its publisher set it; 0 before the first.",
        totals.last_trade_ts,
    )
    created = totals.created or None
    yield CounterMetricFamily("trades_lost", "Tracked trades declared lost.", totals.lost, created=created)
    yield CounterMetricFamily("sidecar_trades_tracked", "Tracked trades counted.", totals.tracked, created=created)
    yield _histogram("trade_delivery_seconds", "Time from a trade's ts to its receipt, in seconds.", snapshot.delivery)
    yield _counter("sidecar_messages_received", "Messages received, valid or not.", snapshot.received)
    yield _rejected(snapshot.rejected)
    yield _counter(
        "sidecar_trades_duplicate",
        "Tracked trades that were already counted, or counted as lost.",
        snapshot.duplicates,
    )
    yield _counter(
        "sidecar_trades_out_of_sequence",
        "Tracked trades that arrived before their turn; publishers resend them.",
        snapshot.out_of_sequence,
    )
    yield GaugeMetricFamily("sidecar_sessions", "Session cursors held.", snapshot.sessions)
    yield GaugeMetricFamily("sidecar_symbols", "Symbols that have series of their own.", totals.symbols)
    yield _histogram(
        "sidecar_commit_seconds", "Duration of a commit of totals and cursors, in seconds.", snapshot.commit_seconds
    )
    yield _counter(
        "sidecar_commit_failures",
        "Failed commits and checks of the state file; each is retried.",
        snapshot.commit_failures,
    )
    yield _counter(
        "sidecar_refused",
        "With CURVE: frames from keys that are not allowed (any more), and failed handshakes.",
        snapshot.refused,
    )


def _sums(name: str, documentation: str, totals: Totals, value: Callable[[Series], float]) -> Metric:
    """A counter by side and symbol. Trades without a symbol have no symbol label."""
    family = CounterMetricFamily(name, documentation)
    for (side, symbol), series in totals.series.items():
        labels: dict[str, str] = {"side": side, "symbol": symbol} if symbol else {"side": side}
        family.add_sample(f"{name}_total", labels, value(series))
        if series.created:
            family.add_sample(f"{name}_created", labels, series.created)
    return family


def _counter(name: str, documentation: str, value: int) -> Metric:
    return CounterMetricFamily(name, documentation, value, created=_STARTED)


def _rejected(messages: Mapping[Reason, int]) -> Metric:
    family = CounterMetricFamily("sidecar_messages_rejected", "Messages that broke the contract.", labels=["reason"])
    for reason, count in messages.items():
        family.add_metric([reason], count, created=_STARTED)
    return family


def _histogram(name: str, documentation: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, documentation, histogram.buckets(), histogram.sum)
    family.add_sample(f"{name}_created", {}, _STARTED)
    return family


def _of_process() -> Iterator[Metric]:
    for family in _process.collect():
        if family.type == "counter":
            family.add_sample(f"{family.name}_created", {}, _STARTED)
        yield family
