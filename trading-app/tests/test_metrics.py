"""The metrics of a publisher, in any application and in the programs."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path

import pytest
from app_process import MEASURED, FakeSidecar, environ, eventually, free_port, program, request
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from trading_app.metrics import PublisherCollector
from trading_app.publisher import TradePublisher

JSON = {"Content-Type": "application/json"}
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def registry_of(*publishers: TradePublisher) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(PublisherCollector(*publishers))
    return registry


def shown(registry: CollectorRegistry) -> tuple[float | None, ...]:
    """Trades published, lost and pending, in one scrape."""
    samples = {sample.name: sample.value for family in registry.collect() for sample in family.samples}
    names = "publisher_trades_total", "publisher_lost_trades_total", "publisher_pending_trades"
    return tuple(samples.get(name) for name in names)


def test_the_library_imports_only_pyzmq_and_msgspec() -> None:
    """The dependencies of the programs are installed too, but the library does not import them."""
    required = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in requires("trading-app") or []}
    code = "import sys, trading_app; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "prometheus_client" in required
    assert required & set(ran.stdout.split()) == {"msgspec"}


def test_metrics_show_published_and_pending_trades(sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        registry = registry_of(publisher)
        assert shown(registry) == (0, 0, 0)
        trades = [publisher.publish("buy") for _ in range(3)]
        assert shown(registry) == (3, 0, 3)
        bytes_held = registry.get_sample_value("publisher_journal_bytes")
        assert bytes_held is not None
        assert bytes_held > 0
        sidecar.next_seq[trades[0].session] = 3
        assert eventually(lambda: shown(registry) == (3, 0, 1))
        sidecar.next_seq[trades[0].session] = 4
        assert eventually(lambda: shown(registry) == (3, 0, 0))


def test_dropped_trades_are_lost_and_not_pending(absent: FakeSidecar) -> None:
    with TradePublisher(absent.address, sidecar_url=absent.url, capacity=80) as publisher:
        registry = registry_of(publisher)
        for _ in range(85):
            publisher.publish("sell")
        published, lost, pending = shown(registry)
        assert published == 85
        assert lost == publisher.lost == 10
        assert pending == 75
        publisher.close(timeout=0)


def test_trades_of_an_earlier_process_are_pending_but_not_published(absent: FakeSidecar, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    with TradePublisher(absent.address, sidecar_url=absent.url, outbox=outbox) as earlier:
        for _ in range(5):
            earlier.publish("buy")
        earlier.close(timeout=0)
    with TradePublisher(absent.address, sidecar_url=absent.url, outbox=outbox) as publisher:
        assert shown(registry_of(publisher)) == (0, 0, 5)
        publisher.publish("buy")
        assert shown(registry_of(publisher)) == (1, 0, 6)
        publisher.close(timeout=0)


def test_renumbered_trades_count_as_published_once(sidecar: FakeSidecar) -> None:
    """After another publisher has used its session, a publisher continues in a new one."""
    sidecar.commits = False
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        registry = registry_of(publisher)
        session = publisher.session
        for _ in range(4):
            publisher.publish("buy")
        sidecar.next_seq[session] = 1_000
        assert eventually(lambda: publisher.session != session)
        publisher.publish("buy")
        assert shown(registry) == (5, 0, 5)
        sidecar.commits = True
        assert publisher.flush(20)
        assert shown(registry) == (5, 0, 0)


def test_metrics_are_sums_over_publishers(absent: FakeSidecar) -> None:
    with (
        TradePublisher(absent.address, sidecar_url=absent.url) as first,
        TradePublisher(absent.address, sidecar_url=absent.url) as second,
    ):
        first.publish("buy")
        second.publish("sell")
        second.publish("sell")
        assert shown(registry_of(first, second)) == (3, 0, 3)
        first.close(timeout=0)
        second.close(timeout=0)


def test_a_closed_publisher_keeps_its_totals(sidecar: FakeSidecar) -> None:
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        registry = registry_of(publisher)
        publisher.publish("buy")
    assert shown(registry) == (1, 0, 0)


def test_each_scrape_is_consistent_while_threads_publish(sidecar: FakeSidecar) -> None:
    """No scrape shows more pending than published trades, and no counter decreases."""
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        registry = registry_of(publisher)
        threads = [threading.Thread(target=lambda: [publisher.publish("buy") for _ in range(2_000)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        last = 0.0
        while any(thread.is_alive() for thread in threads):
            published, lost, pending = shown(registry)
            assert published is not None
            assert pending is not None
            assert lost == 0
            assert last <= published <= 4_000
            assert pending <= published
            last = published
        for thread in threads:
            thread.join()
        assert publisher.flush(20)
        assert shown(registry) == (4_000, 0, 0)


@pytest.fixture(scope="module", params=["api", "ui"])
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the metrics of a program that has not published a trade."""
    with running(request.param, FakeSidecar(), **MEASURED) as url:
        yield f"{url}/metrics"


@contextmanager
def running(module: str, sidecar: FakeSidecar, **settings: str) -> Iterator[str]:
    """Run a program, and yield its address."""
    port = free_port()
    settings |= {**sidecar.environ, "PORT": str(port)}
    process = subprocess.Popen(program(module), env=environ(**settings))
    try:
        url = f"http://127.0.0.1:{port}"
        assert eventually(lambda: scrape(f"{url}/metrics")[0] == 200, timeout=60)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in {0, -signal.SIGTERM}
    finally:
        process.kill()
        process.wait()


def scrape(url: str, accept: str = "") -> tuple[int, str, str]:
    status, headers, body = request(url, Accept=accept)
    return status, headers.get("content-type", ""), body


@pytest.mark.slow
def test_a_program_serves_metrics_from_the_start(target: str) -> None:
    status, content_type, body = scrape(target)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples = {
        sample.name: sample.value for family in text_string_to_metric_families(body) for sample in family.samples
    }
    assert samples["publisher_trades_total"] == 0
    assert samples["publisher_lost_trades_total"] == 0
    assert samples["publisher_pending_trades"] == 0
    assert "publisher_journal_bytes" in samples
    assert samples["process_start_time_seconds"] > 0
    assert "_created" not in body


@pytest.mark.slow
def test_openmetrics_has_the_start_of_each_counter(target: str) -> None:
    status, content_type, body = scrape(target, OPENMETRICS)
    assert (status, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    lines = dict(line.rsplit(" ", 1) for line in body.splitlines() if line[0] != "#")
    started = float(lines["process_start_time_seconds"])
    for name in "publisher_trades_created", "publisher_lost_trades_created":
        assert started - 1 <= float(lines[name]) < started + 60
    assert body.endswith("# EOF\n")


@pytest.mark.slow
def test_other_web_sites_cannot_read_the_metrics(target: str) -> None:
    assert request(target, Host="rebound.example")[0] == 421
    assert request(target, Origin="http://elsewhere.example")[0] == 403


@pytest.mark.slow
def test_an_invalid_accept_header_gets_the_text_format(target: str) -> None:
    status, content_type, _ = scrape(target, "application/openmetrics-text;version=x")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")


@pytest.mark.slow
def test_the_api_counts_posted_trades(sidecar: FakeSidecar) -> None:
    with running("api", sidecar) as url:
        assert request(f"{url}/trade/buy", b"{}", **JSON)[0] == 202
        assert "publisher_trades_total 1.0\n" in scrape(f"{url}/metrics")[2]
