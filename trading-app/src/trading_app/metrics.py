"""Publishers as a Prometheus target. This needs prometheus-client; `TradePublisher` by itself does not."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from trading_app.publisher import TradePublisher


class PublisherCollector(Collector):
    """What this process has published, lost, and still holds. One line registers it::

        REGISTRY.register(PublisherCollector(publisher))

    A registry takes one of these. It shows the sum of all ``publishers``.
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
            "What the journal takes in memory or on disk.",
            sum(each.bytes for each in counts),
        )


def process_registry(*publishers: TradePublisher) -> CollectorRegistry:
    """A registry of the publishers and of the process they are in."""
    registry = CollectorRegistry()
    registry.register(PublisherCollector(*publishers))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Body and content type: the text format, or OpenMetrics where the ``Accept`` header asks for it."""
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # a version that is no number
        encode, content_type = choose_encoder("")
    is_text = content_type.startswith("text/plain")
    return encode(_WithoutCreated(registry) if is_text else registry), content_type


class _WithoutCreated(Collector):
    """The text format has no ``_created``: there it would be a gauge."""

    def __init__(self, collector: CollectorRegistry) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        for family in self._collector.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
