"""The poller, and the words for the state of the loop."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from app_process import FakeSidecar, eventually

from trading_app.settings import Settings
from trading_app.ui.poller import Poller, Snapshot
from trading_app.ui.status import stations, summarize

pytestmark = pytest.mark.slow


type Polling = Callable[[FakeSidecar], Poller]


def settings(sidecar: FakeSidecar) -> Settings:
    return Settings.from_environ(port=8501, environ=sidecar.environ)


@pytest.fixture
def polling() -> Iterator[Polling]:
    pollers: list[Poller] = []

    def poll(sidecar: FakeSidecar) -> Poller:
        pollers.append(Poller(settings(sidecar)))
        return pollers[-1]

    yield poll
    for poller in pollers:
        poller.close()


def test_the_first_call_returns_a_complete_snapshot(sidecar: FakeSidecar, polling: Polling) -> None:
    sidecar.counted = [trade("BTC-USD", 101.0, seq=2), trade("BTC-USD", 100.0, seq=1)]
    sidecar.metrics += 'trades_total{side="buy",symbol="BTC-USD"} 2.0\n'
    snapshot = polling(sidecar).look("BTC-USD")
    assert snapshot.sidecar == ""
    assert snapshot.totals
    assert snapshot.totals.trades("buy") == 5.0
    assert [counted.seq for counted in snapshot.trades] == [2, 1]
    assert snapshot.last_prices == {"BTC-USD": 101.0}
    assert snapshot.prices["BTC-USD"][0].value == 101.0


def trade(symbol: str, price: float, seq: int) -> dict[str, Any]:
    now = time.time()
    return {
        "side": "buy", "qty": 1.0, "ts": now, "received_at": now, "symbol": symbol, "price": price, "session": "a",
        "seq": seq,
    }  # fmt: skip


def test_a_snapshot_follows_the_sidecar_and_keeps_the_last_known_totals(sidecar: FakeSidecar, polling: Polling) -> None:
    poller = polling(sidecar)
    sidecar.counted = [trade("BTC-USD", 101.0, seq=1)]
    assert poller.look().sidecar == ""
    sidecar.close()
    assert eventually(lambda: poller.look().sidecar)
    assert poller.look().totals, "the last known"
    assert poller.look().trades, "the last known"
    sidecar.open()
    assert eventually(lambda: not poller.look().sidecar)


def test_the_first_answer_brings_all_trades_that_the_sidecar_keeps(sidecar: FakeSidecar, polling: Polling) -> None:
    sidecar.counted = [trade("BTC-USD", 100.0, seq) for seq in range(150, 0, -1)]
    sidecar.close()
    poller = polling(sidecar)
    assert poller.look().sidecar
    sidecar.open()
    assert eventually(lambda: poller.look().trades)
    assert len(poller.look().trades) == 150


def test_later_calls_do_not_block(sidecar: FakeSidecar, polling: Polling) -> None:
    """A press of a button must not wait for a service that hangs."""
    poller = polling(sidecar)
    poller.look()
    started = time.monotonic()
    for _ in range(100):
        poller.look()
    assert time.monotonic() - started < 0.5


def test_charts_cover_the_symbols_of_all_open_pages(sidecar: FakeSidecar, polling: Polling) -> None:
    poller = polling(sidecar)
    poller.look("BTC-USD")
    assert eventually(lambda: {"BTC-USD", ""} <= set(poller.look("").positions))


def test_polling_stops_while_no_page_is_open(sidecar: FakeSidecar, polling: Polling) -> None:
    poller = polling(sidecar)
    looked = poller.look()

    def asks_no_more() -> bool:
        asked = sidecar.requests
        time.sleep(1.5)
        return sidecar.requests == asked

    assert eventually(asks_no_more)
    assert eventually(lambda: poller.look().asked_at > looked.asked_at + 1)


def states(sidecar: FakeSidecar, waiting: int, snapshot: Snapshot) -> dict[str, str]:
    return {station.name: station.state for station in stations(settings(sidecar), waiting, snapshot)}


UP = Snapshot(asked_at=100.0, sidecar="", prometheus="", grafana="", scraped=True)


@pytest.mark.parametrize(
    "waiting, snapshot, expected",
    [
        (0, UP, ["idle", "up", "up", "up"]),
        (1, UP, ["1 waiting", "up", "up", "up"]),
        (2000, Snapshot(), ["2,000 waiting", "away", "not running", "not running"]),
        (0, Snapshot(sidecar="", prometheus="", grafana=""), ["idle", "up", "cannot reach the sidecar", "up"]),
    ],
)
def test_each_part_of_the_loop_has_a_state(
    sidecar: FakeSidecar, waiting: int, snapshot: Snapshot, expected: list[str]
) -> None:
    assert list(states(sidecar, waiting, snapshot).values()) == expected


def test_only_a_part_that_answers_has_a_link(sidecar: FakeSidecar) -> None:
    def linked(snapshot: Snapshot) -> list[str]:
        return [station.name for station in stations(settings(sidecar), 0, snapshot) if station.url]

    assert linked(UP) == ["Sidecar", "Prometheus", "Grafana"]
    assert linked(replace(UP, grafana="Connection refused")) == ["Sidecar", "Prometheus"]
    assert linked(Snapshot()) == []


@pytest.mark.parametrize(
    "waiting, dropped, snapshot, kind, title, words",
    [
        (0, 0, UP, "success", "Live", ""),
        (9_999, 0, UP, "success", "Live", ""),
        (10_000, 0, UP, "warning", "Sidecar behind", "10,000 trades wait here. There is room for 990,000 more"),
        (
            0,
            0,
            Snapshot(sidecar="Connection refused"),
            "warning",
            "Sidecar away",
            "New trades wait here until it is back",
        ),
        (
            1,
            0,
            Snapshot(sidecar="timed out"),
            "warning",
            "Sidecar away",
            "1 trade waits here until it is back (timed out)",
        ),
        (1_000_000, 12_345, Snapshot(sidecar="timed out"), "error", "Losing trades", "12,345 so far"),
        (1_000_000, 12_345, UP, "error", "Losing trades", "drop the oldest"),
        (875_000, 125_000, UP, "error", "Losing trades", "125,000 so far"),
        (874_999, 125_000, UP, "warning", "Sidecar behind", "room for 125,001 more"),
        (999_999, 0, UP, "warning", "Sidecar behind", "room for 1 more"),
        (0, 12_345, replace(UP, lost=7.0), "warning", "Trades lost", "7 trades in the last 5 minutes"),
    ],
)
def test_the_summary_names_the_most_serious_state(  # noqa: PLR0913, PLR0917
    waiting: int, dropped: int, snapshot: Snapshot, kind: str, title: str, words: str
) -> None:
    summary = summarize(waiting, 1_000_000, dropped, snapshot)
    assert (summary.kind, summary.title) == (kind, title)
    assert words in summary.text
