"""The way out: what the journal and the receiver know, as Prometheus metric families."""

from collections.abc import Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from metrics_sidecar.histogram import Histogram
from metrics_sidecar.journal import Journal
from metrics_sidecar.receiver import Receiver


class SidecarCollector(Collector):
    """Renders one consistent snapshot a scrape.

    It takes what has arrived, up to one batch, so that a scrape shows it. It commits, so that
    none shows a total which a kill of the process could take back: to Prometheus that would be a counter reset.
    """

    def __init__(self, journal: Journal, receiver: Receiver) -> None:
        self._journal = journal
        self._receiver = receiver

    def collect(self) -> Iterable[Metric]:
        journal, receiver = self._journal, self._receiver
        with journal.reading():
            receiver.catch_up()
            journal.commit()
            totals, ledger = journal.totals, journal.ledger
            return [
                _counters("trades", "Trades counted.", "side", totals.trades),
                _counters(
                    "volume", "Sum of the quantities of the trades counted, in units traded.", "side", totals.volume
                ),
                GaugeMetricFamily(
                    "last_trade_ts_seconds",
                    "Unix time of the trade counted last, as its publisher set it; 0 before the first.",
                    totals.last_trade_ts,
                ),
                CounterMetricFamily("trades_lost", "Tracked trades that their publisher declared gone.", totals.lost),
                _histogram("trade_delivery_seconds", "From a trade's ts to its receipt.", ledger.delivery),
                CounterMetricFamily("sidecar_messages_received", "Messages taken off the socket.", receiver.received),
                _counters(
                    "sidecar_messages_rejected", "Messages that broke the contract.", "reason", receiver.rejected
                ),
                CounterMetricFamily(
                    "sidecar_trades_duplicate", "Tracked trades that had been counted before.", ledger.duplicates
                ),
                CounterMetricFamily(
                    "sidecar_trades_out_of_sequence",
                    "Tracked trades that came before their turn, to be sent again.",
                    ledger.out_of_sequence,
                ),
                GaugeMetricFamily("sidecar_sessions", "Session cursors held.", len(ledger.next_seq)),
                _histogram(
                    "sidecar_commit_seconds", "Time of one commit of totals and cursors.", journal.commit_seconds
                ),
                CounterMetricFamily(
                    "sidecar_commit_failures", "Commits that failed; each is tried again.", journal.commit_failures
                ),
            ]


def _counters[Label: str](name: str, documentation: str, label: str, values: Mapping[Label, float]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, documentation: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, documentation, histogram.buckets(), histogram.sum)
