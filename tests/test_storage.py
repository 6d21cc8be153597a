"""Long-term storage as it ships: a real Prometheus sends to a real VictoriaMetrics, and either may be killed."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from chaos import Sidecar
from stack import ROOT, Database, Prometheus, VictoriaMetrics, eventually, free_port

from trading_app.publisher import TradePublisher

TOTAL = "sum(trades_total)"
UP = 'up{job="metrics-sidecar"}'


class Load:
    """Publishes without end, until it is stopped."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._publisher = TradePublisher(sidecar.address, sidecar_url=sidecar.url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.published = 0

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self._publisher.publish("buy")
            self.published += 1

    def stop(self) -> int:
        """How many trades that were, all of them counted."""
        self._stop.set()
        self._thread.join()
        assert self._publisher.flush(20)
        self._publisher.close()
        return self.published


class Stored:
    """A sidecar under load, scraped by Prometheus, which sends what it has to VictoriaMetrics."""

    def __init__(self, folder: Path) -> None:
        self.sidecar = Sidecar(folder)
        self.sidecar.start()
        self.victoria = VictoriaMetrics(folder / "victoria", free_port())
        target = self.sidecar.url.removeprefix("http://")
        self.prometheus = Prometheus(folder / "prometheus", target, free_port(), storage=self.victoria.address)
        self.load = Load(self.sidecar)

    @property
    def databases(self) -> list[Database]:
        return [self.prometheus, self.victoria]

    def end(self) -> None:
        self.load.stop()
        for database in self.databases:
            database.end()
        self.sidecar.close()


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    running = Stored(tmp_path)
    assert eventually(lambda: all(database.value(TOTAL) for database in running.databases))
    yield running
    running.end()


@pytest.mark.parametrize("killed", [lambda stored: stored.victoria, lambda stored: stored.prometheus], ids=["v", "p"])
def test_after_a_kill_under_load_both_answer_the_same_totals(
    stored: Stored, killed: Callable[[Stored], Database]
) -> None:
    database = killed(stored)
    database.end()
    # The load goes on for longer than the time in which a batch is sent.
    went_on = stored.load.published + 500
    assert eventually(lambda: stored.load.published > went_on)
    assert database.value(TOTAL) is None
    database.start()
    went_on = stored.load.published + 500
    assert eventually(lambda: (database.value(TOTAL) or 0) > went_on)
    published = stored.load.stop()
    for each in stored.databases:
        assert eventually(lambda each=each: each.value(TOTAL) == published), each.value(TOTAL)  # type: ignore[misc]


def test_what_victoria_metrics_missed_while_it_was_away_it_gets_later(stored: Stored) -> None:
    """Prometheus keeps what it could not send: no scrape is missing."""
    stored.victoria.end()
    away = time.time()
    went_on = stored.load.published + 500
    assert eventually(lambda: stored.load.published > went_on)
    back = time.time()
    stored.victoria.start()
    scraped = [at for at, _ in stored.prometheus.samples(UP) if away <= at <= back]
    assert len(scraped) > 1
    assert eventually(lambda: set(scraped) <= {at for at, _ in stored.victoria.samples(UP)})


def test_the_configuration_with_storage_is_the_other_one_and_remote_write() -> None:
    """Prometheus has no include for it. To mend: change both files."""
    folder = ROOT / "infra/prometheus"
    base, storage = ((folder / name).read_text() for name in ("prometheus.yml", "prometheus.storage.yml"))
    assert storage.startswith(base)
    added = yaml.safe_load(storage.removeprefix(base))
    assert added.keys() == {"remote_write"}
    (remote,) = added["remote_write"]
    assert remote["url"] == "http://victoria-metrics:8428/api/v1/write"
