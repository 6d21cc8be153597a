"""Long-term storage as shipped: a real Prometheus writes to a real VictoriaMetrics, and each is killed in turn."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
import yaml
from harness.databases import Database, Prometheus, VictoriaMetrics
from harness.ports import free_port
from harness.sidecar import Sidecar
from harness.tools import ROOT
from harness.waiting import eventually

from trading_app.publisher import TradePublisher

TOTAL = "sum(trades_total)"
UP = 'up{job="metrics-sidecar"}'


@dataclass
class Stored:
    """A sidecar and a Prometheus that scrapes it and writes to VictoriaMetrics."""

    sidecar: Sidecar
    victoria: VictoriaMetrics
    prometheus: Prometheus

    @property
    def databases(self) -> list[Database]:
        return [self.prometheus, self.victoria]

    def total(self) -> float:
        """The number of trades on the sidecar's own /metrics."""
        return sum(value for name, value in self.sidecar.samples().items() if name.startswith("trades_total"))


class Load:
    """Publishes until it is stopped."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._publisher = TradePublisher(sidecar.address, sidecar_url=sidecar.url)
        self._stop = threading.Event()
        self.published = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self._publisher.publish("buy")
            self.published += 1

    def publish_for_a_while(self) -> None:
        """Publish for longer than remote write waits for a full batch."""
        enough = self.published + 400
        assert eventually(lambda: self.published > enough)

    def stop(self) -> None:
        """Stop, and wait until every trade is counted."""
        self._stop.set()
        self._thread.join()
        assert self._publisher.flush(30)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._publisher.close(timeout=0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder = tmp_path_factory.mktemp("stored")
    with Sidecar(folder) as sidecar, VictoriaMetrics(folder / "victoria", free_port()) as victoria:
        target = sidecar.url.removeprefix("http://")
        with Prometheus(folder / "prometheus", target, free_port(), storage=victoria.address) as prometheus:
            yield Stored(sidecar, victoria, prometheus)


@pytest.fixture
def load(stored: Stored) -> Iterator[Load]:
    with closing(Load(stored.sidecar)) as running:
        assert eventually(lambda: all(database.value(TOTAL) for database in stored.databases))
        yield running


@pytest.mark.parametrize("name", ["victoria", "prometheus"])
def test_after_a_kill_under_load_both_databases_have_the_same_totals(stored: Stored, load: Load, name: str) -> None:
    database: Database = getattr(stored, name)
    database.end()
    before = stored.total()
    load.publish_for_a_while()
    assert database.value(TOTAL) is None
    database.start()
    assert eventually(lambda: (database.value(TOTAL) or 0) > before)
    load.stop()
    total = stored.total()
    assert total > before
    assert eventually(lambda: [each.value(TOTAL) for each in stored.databases] == [total] * 2)


def test_victoria_metrics_receives_the_scrapes_of_an_outage_afterwards(stored: Stored, load: Load) -> None:
    """Prometheus keeps the samples that it could not send, so no scrape is missing."""
    stored.victoria.end()
    away = time.time()
    load.publish_for_a_while()
    assert eventually(lambda: len([at for at, _ in stored.prometheus.samples(UP) if at >= away]) > 1)
    scraped = {at for at, _ in stored.prometheus.samples(UP) if at >= away}
    stored.victoria.start()
    assert eventually(lambda: scraped <= {at for at, _ in stored.victoria.samples(UP)})


def test_the_configuration_with_storage_only_adds_remote_write() -> None:
    """Prometheus cannot include one file in another. To fix this test, change both files."""
    folder = ROOT / "infra/prometheus"
    base, storage = ((folder / name).read_text() for name in ("prometheus.yml", "prometheus.storage.yml"))
    assert storage.startswith(base)
    added = yaml.safe_load(storage.removeprefix(base))
    assert added.keys() == {"remote_write"}
    (remote,) = added["remote_write"]
    assert remote["url"] == "http://victoria-metrics:8428/api/v1/write"
