"""The clients that fetch totals, cursors and counted trades from the sidecar."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from app_process import METRICS, free_port

from trading_app.counted import CountedTrade, CountedTradesClient
from trading_app.cursor import Cursor, CursorClient
from trading_app.totals import SideTotals, TotalsClient
from trading_app.unreachable import Unreachable

NESTED = '[{"x": ' * 50_000


class FixedAnswer(BaseHTTPRequestHandler):
    status, health, body = 200, 200, METRICS

    def do_GET(self) -> None:
        self.send_response(self.health if self.path == "/health" else self.status)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers each request with the status and body of `FixedAnswer`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), FixedAnswer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_totals_come_from_the_metrics(url: str) -> None:
    totals = TotalsClient(url).ask()
    assert totals.by_symbol == {"": {"buy": SideTotals(3.0, 4.5, 0.0), "sell": SideTotals(1.0, 2.0, 0.0)}}
    assert totals.position("") == 2.5
    assert totals.last_trade_ts == 1790000000.5
    assert totals.lost == 7
    assert totals.delivery == {0.001: 3.0, 0.1: 4.0, math.inf: 4.0}


def test_totals_are_kept_by_symbol(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_symbol = """trades_total{side="buy",symbol="BTC-USD"} 2.0
volume_total{side="buy",symbol="BTC-USD"} 0.5
notional_total{side="buy",symbol="BTC-USD"} 32000.0
volume_total{side="sell",symbol="other"} 0.25
"""
    monkeypatch.setattr(FixedAnswer, "body", METRICS + by_symbol)
    totals = TotalsClient(url).ask()
    assert totals.by_symbol["BTC-USD"] == {"buy": SideTotals(2.0, 0.5, 32000.0), "sell": SideTotals()}
    assert totals.trades("buy") == 5.0
    assert [totals.position(symbol) for symbol in ("", "BTC-USD", "other", "none")] == [2.5, 0.5, -0.25, 0.0]


def test_counted_trades_have_their_optional_fields(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare: dict[str, Any] = {"side": "buy", "qty": 1.0, "ts": 99.0, "received_at": 100.0}
    whole = {**bare, "symbol": "BTC-USD", "price": 0.0, "session": "a", "seq": 7}
    nothing = dict.fromkeys(("symbol", "price", "session", "seq"))
    monkeypatch.setattr(FixedAnswer, "body", json.dumps([whole, {**bare, **nothing}]))
    assert CountedTradesClient(url).ask(2) == [CountedTrade(**whole), CountedTrade(**bare)]


@pytest.mark.parametrize("body", ["hello", "{}", "[5]", '[{"side": "buy"}]', NESTED])
def test_an_invalid_list_of_trades_raises_unreachable(url: str, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(FixedAnswer, "body", body)
    with pytest.raises(Unreachable, match=r"^the answer is not a list of trades: "):
        CountedTradesClient(url).ask(2)


def test_the_proxy_of_the_environment_is_ignored(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert TotalsClient(url).ask().trades("buy") == 3.0


def test_a_sidecar_that_does_not_listen_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"^Connection refused$"):
        TotalsClient(f"http://127.0.0.1:{free_port()}").ask()


def test_the_cursor_of_a_session_is_returned(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FixedAnswer, "body", '{"session": "a", "next_seq": 43, "state_id": "x"}')
    assert CursorClient(url).ask("a") == Cursor(43, "x")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("hello", id="not JSON"),
        pytest.param("[]", id="array"),
        pytest.param('{"next_seq": 1}', id="no state_id"),
        pytest.param('{"next_seq": 0, "state_id": "x"}', id="next_seq 0"),
        pytest.param('{"next_seq": 1e999, "state_id": "x"}', id="infinite next_seq"),
        pytest.param('{"next_seq": 1000000000002, "state_id": "x"}', id="next_seq above the limit"),
        pytest.param(NESTED[1:], id="nested too deeply"),
    ],
)
def test_an_invalid_cursor_raises_unreachable(url: str, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(FixedAnswer, "body", body)
    with pytest.raises(Unreachable, match=r"^the answer is not a cursor: "):
        CursorClient(url).ask("a")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("hello", id="text"),
        pytest.param("trades_total{side=", id="truncated"),
        pytest.param(METRICS + 'x{a="b", ="c"} 1\n', id="a label without a name"),
        pytest.param("", id="empty"),
        pytest.param("last_trade_ts_seconds 0\ntrades_lost_total 0\n", id="no trades_total"),
    ],
)
def test_invalid_metrics_raise_unreachable(url: str, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(FixedAnswer, "body", body)
    with pytest.raises(Unreachable, match=r"^the answer is not the sidecar's metrics: "):
        TotalsClient(url).ask()


def test_an_error_status_raises_unreachable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is ignored, even one that is valid with status 200."""
    monkeypatch.setattr(FixedAnswer, "status", 503)
    monkeypatch.setattr(FixedAnswer, "body", '{"next_seq": 1, "state_id": "x"}')
    for ask in (lambda: CursorClient(url).ask("a"), TotalsClient(url).ask, lambda: CountedTradesClient(url).ask(1)):
        with pytest.raises(Unreachable, match=r"^status 503: "):
            ask()


def test_totals_of_an_unhealthy_sidecar_raise_unreachable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FixedAnswer, "health", 503)
    with pytest.raises(Unreachable, match=r"^status 503: "):
        TotalsClient(url).ask()


def test_the_problems_that_the_sidecar_reports_are_the_reason(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = ["cannot commit: the disk is full", "and more"]
    monkeypatch.setattr(FixedAnswer, "status", 503)
    monkeypatch.setattr(FixedAnswer, "body", json.dumps({"status": "failing", "problems": problems}))
    with pytest.raises(Unreachable, match=r"^status 503: cannot commit: the disk is full; and more$"):
        CursorClient(url).ask("a")
