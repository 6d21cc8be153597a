"""Publishers as a Prometheus target. This module needs prometheus-client; `TradePublisher` does not."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from trading_app.publisher import TradePublisher


class PublisherCollector(Collector):
    """Collects what this process has published, lost, and still holds. Register it in one line::

        REGISTRY.register(PublisherCollector(publisher))

    The metrics are sums over ``publishers``. A registry takes one such collector.
    """

    def __init__(self, *publishers: TradePublisher) -> None:
        self._publishers = publishers

    def collect(self) -> Iterator[Metric]:
        counts = [publisher.counts for publisher in self._publishers]
        created = min((each.created for each in counts), default=None)
        yield CounterMetricFamily(
            "publisher_trades",
            "Trades published by this process.",
            sum(each.published for each in counts),
            created=created,
        )
        yield CounterMetricFamily(
            "publisher_lost_trades",
            "Trades dropped from a full journal before they were known to be committed.",
            sum(each.lost for each in counts),
            created=created,
        )
        yield GaugeMetricFamily(
            "publisher_pending_trades",
            "Trades that the sidecar is not known to have committed.",
            sum(each.pending for each in counts),
        )
        yield GaugeMetricFamily(
            "publisher_journal_bytes",
            "The size of the journal in memory or on disk.",
            sum(each.bytes for each in counts),
        )


def process_registry(*publishers: TradePublisher) -> CollectorRegistry:
    """Return a registry with the metrics of the publishers and of this process."""
    registry = CollectorRegistry()
    registry.register(PublisherCollector(*publishers))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return body and content type: OpenMetrics if the ``Accept`` header asks for it, else the text format."""
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # raised for a version that is not a number
        encode, content_type = choose_encoder("")
    is_text = content_type.startswith("text/plain")
    return encode(_WithoutCreated(registry) if is_text else registry), content_type


class _WithoutCreated(Collector):
    """Removes ``_created`` samples, which the text format would show as gauges."""

    def __init__(self, collector: CollectorRegistry) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        for family in self._collector.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
