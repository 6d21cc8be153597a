"""A real Prometheus 3 sees a reset when a counter starts again, whatever its value at the next scrape."""

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq
from harness.databases import Prometheus
from harness.ports import free_port
from harness.sidecar import Sidecar
from harness.tools import unavailable
from harness.waiting import eventually

from metrics_sidecar.state_format import seal

BUYS = 'trades_total{side="buy"}'
MINUTE, DAY = 60.0, 86_400.0


@pytest.fixture
def scrape(tmp_path: Path, sidecar: Sidecar) -> Iterator[Callable[[], Prometheus]]:
    """Starts a new Prometheus that scrapes the sidecar."""
    with ExitStack() as started:

        def start() -> Prometheus:
            target = sidecar.url.removeprefix("http://")
            prometheus = started.enter_context(Prometheus(tmp_path / "prometheus", target, free_port()))
            assert eventually(lambda: prometheus.value('up{job="metrics-sidecar"}') == 1)
            if prometheus.major < 3:
                unavailable("Prometheus 2 does not read created timestamps: bin/setup --test unpacks a Prometheus 3")
            return prometheus

        yield start


def count(sidecar: Sidecar, trades: int) -> None:
    """Send the sidecar that many trades, and wait until they are counted."""
    before = sidecar.samples()[BUYS]
    line = json.dumps({"type": "trade", "side": "buy", "qty": 1.0, "ts": 1790000000.0})
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(sidecar.address)
        push.send_string("\n".join([line] * trades))
    assert eventually(lambda: sidecar.samples()[BUYS] == before + trades)


def restart_unseen(sidecar: Sidecar, prometheus: Prometheus, meanwhile: Callable[[], None], trades: int) -> None:
    """Kill the sidecar, start it again and let it count, all between two scrapes."""
    prometheus.send(signal.SIGSTOP)
    sidecar.end()
    meanwhile()
    sidecar.start()
    assert eventually(sidecar.is_up)
    count(sidecar, trades)
    prometheus.send(signal.SIGCONT)


def values(prometheus: Prometheus) -> list[float]:
    """The distinct values of the counter, in order."""
    return list(dict.fromkeys(value for _, value in prometheus.samples(BUYS)))


def test_a_deleted_state_file_is_a_reset_even_when_the_new_total_exceeds_the_old_one(
    sidecar: Sidecar, scrape: Callable[[], Prometheus], tmp_path: Path
) -> None:
    count(sidecar, 10)
    prometheus = scrape()
    assert eventually(lambda: prometheus.value(BUYS) == 10)

    def delete_the_state() -> None:
        for path in tmp_path.glob("sidecar.sqlite3*"):
            path.unlink()

    restart_unseen(sidecar, prometheus, delete_the_state, trades=25)
    assert eventually(lambda: prometheus.value(BUYS) == 25)
    assert [value for _, value in prometheus.samples(BUYS)].count(0) >= 1
    assert prometheus.value(f"resets({BUYS}[5m])") == 1
    assert prometheus.value("resets(trades_lost_total[5m])") == 0, "0 before and after"
    assert prometheus.query('{__name__=~".+_created"}') == [], "created timestamps are not stored as series"


def test_a_restart_with_its_state_is_no_reset(sidecar: Sidecar, scrape: Callable[[], Prometheus]) -> None:
    count(sidecar, 10)
    prometheus = scrape()
    assert eventually(lambda: prometheus.value(BUYS) == 10)
    received = prometheus.value("sidecar_messages_received_total")
    restart_unseen(sidecar, prometheus, lambda: None, trades=25)
    assert eventually(lambda: prometheus.value(BUYS) == 35)
    assert prometheus.value(f"resets({BUYS}[5m])") == 0
    assert values(prometheus)[-2:] == [10, 35]
    # This counter does not survive the process: it started again, and exceeds its old value at the next scrape.
    assert (received, prometheus.value("sidecar_messages_received_total")) == (10, 25)
    assert prometheus.value("resets(sidecar_messages_received_total[5m])") == 1


def test_a_restored_older_state_file_is_a_reset(
    sidecar: Sidecar, scrape: Callable[[], Prometheus], tmp_path: Path
) -> None:
    """Its created timestamps are the same; the totals are lower."""
    count(sidecar, 10)
    sidecar.stop()
    shutil.copy(tmp_path / "sidecar.sqlite3", tmp_path / "backup")
    sidecar.start()
    assert eventually(sidecar.is_up)
    count(sidecar, 20)
    prometheus = scrape()
    assert eventually(lambda: prometheus.value(BUYS) == 30)
    sidecar.stop()
    shutil.copy(tmp_path / "backup", tmp_path / "sidecar.sqlite3")
    sidecar.start()
    assert eventually(lambda: prometheus.value(BUYS) == 10)
    assert prometheus.value(f"resets({BUYS}[5m])") == 1


@pytest.mark.parametrize("age", [pytest.param(10 * MINUTE, marks=pytest.mark.long), 30 * DAY])
def test_a_new_prometheus_does_not_count_old_totals_as_an_increase(
    sidecar: Sidecar, scrape: Callable[[], Prometheus], tmp_path: Path, age: float
) -> None:
    count(sidecar, 1000)
    sidecar.stop()
    with sqlite3.connect(tmp_path / "sidecar.sqlite3") as database:
        database.execute("UPDATE series SET created = created - ?", (age,))
        seal(database)
    database.close()
    sidecar.start()
    assert eventually(sidecar.is_up)
    prometheus = scrape()
    assert eventually(lambda: len([value for _, value in prometheus.samples(BUYS) if value]) > 3)
    assert prometheus.value(f"max_over_time(rate({BUYS}[1m])[5m:1s])") == 0
    count(sidecar, 1)
    assert eventually(lambda: prometheus.value(BUYS) == 1001)
    assert prometheus.value(f"increase({BUYS}[1m])") < 10  # type: ignore[operator]
