"""Totals and cursors, asked of the sidecar over HTTP."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from app_process import METRICS, free_port

from trading_app.client import Unreachable
from trading_app.counted import CountedTrade, CountedTradesClient
from trading_app.cursor import Cursor, CursorClient
from trading_app.totals import SideTotals, TotalsClient


class Answering(BaseHTTPRequestHandler):
    status, body = 200, METRICS

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers as the class above says at that moment."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_totals_are_read_from_the_metrics(url: str) -> None:
    totals = TotalsClient(url).ask()
    assert totals.by_symbol == {"": {"buy": SideTotals(3.0, 4.5, 0.0), "sell": SideTotals(1.0, 2.0, 0.0)}}
    assert totals.position("") == 2.5
    assert totals.last_trade_ts == 1790000000.5
    assert totals.lost == 7
    assert totals.delivery == {0.001: 3.0, 0.1: 4.0, math.inf: 4.0}


def test_each_symbol_has_its_totals(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_symbol = """trades_total{side="buy",symbol="BTC-USD"} 2.0
volume_total{side="buy",symbol="BTC-USD"} 0.5
notional_total{side="buy",symbol="BTC-USD"} 32000.0
volume_total{side="sell",symbol="other"} 0.25
"""
    monkeypatch.setattr(Answering, "body", METRICS + by_symbol)
    totals = TotalsClient(url).ask()
    assert totals.by_symbol["BTC-USD"] == {"buy": SideTotals(2.0, 0.5, 32000.0), "sell": SideTotals()}
    assert totals.trades("buy") == 5.0
    assert [totals.position(symbol) for symbol in ("", "BTC-USD", "other", "none")] == [2.5, 0.5, -0.25, 0.0]


def test_counted_trades_are_read_with_what_they_carry(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare: dict[str, Any] = {"side": "buy", "qty": 1.0, "ts": 99.0, "received_at": 100.0}
    whole = {**bare, "symbol": "BTC-USD", "price": 0.0, "session": "a", "seq": 7}
    nothing = dict.fromkeys(("symbol", "price", "session", "seq"))
    monkeypatch.setattr(Answering, "body", json.dumps([whole, {**bare, **nothing}]))
    assert CountedTradesClient(url).ask(2) == [CountedTrade(**whole), CountedTrade(**bare)]


@pytest.mark.parametrize("body", ["hello", "{}", "[5]", '[{"side": "buy"}]'])
def test_counted_trades_that_are_none_are_not_taken_for_some(
    url: str, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(Answering, "body", body)
    with pytest.raises(Unreachable):
        CountedTradesClient(url).ask(2)


def test_a_proxy_for_the_world_outside_is_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert TotalsClient(url).ask().trades("buy") == 3.0


def test_a_sidecar_that_does_not_listen_is_away() -> None:
    with pytest.raises(Unreachable, match="refused"):
        TotalsClient(f"http://127.0.0.1:{free_port()}").ask()


def test_a_cursor_is_read_from_its_session(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "body", '{"session": "a", "next_seq": 43, "state_id": "x"}')
    assert CursorClient(url).ask("a") == Cursor(43, "x")


@pytest.mark.parametrize(
    "status, body",
    [
        (503, '{"next_seq": 1, "state_id": "x"}'),
        (200, "hello"),
        (200, "[]"),
        (200, '{"next_seq": 1}'),
        (200, '{"next_seq": 0, "state_id": "x"}'),
        (200, '{"next_seq": 1e999, "state_id": "x"}'),
        (200, '{"next_seq": 1000000000002, "state_id": "x"}'),
    ],
)
def test_a_cursor_that_is_none_is_not_taken_for_one(
    url: str, monkeypatch: pytest.MonkeyPatch, status: int, body: str
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    monkeypatch.setattr(Answering, "body", body)
    with pytest.raises(Unreachable):
        CursorClient(url).ask("a")


@pytest.mark.parametrize("status, body", [(503, METRICS), (200, "hello"), (200, "trades_total{side="), (200, "")])
def test_a_sidecar_that_answers_nonsense_is_away(
    url: str, monkeypatch: pytest.MonkeyPatch, status: int, body: str
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    monkeypatch.setattr(Answering, "body", body)
    with pytest.raises(Unreachable):
        TotalsClient(url).ask()
