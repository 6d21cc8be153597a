"""Totals and cursors, asked of the sidecar over HTTP."""

import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from app_process import METRICS, free_port

from trading_app.client import Unreachable
from trading_app.cursor import Cursor, CursorClient
from trading_app.totals import TotalsClient


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
    assert totals.trades == {"buy": 3.0, "sell": 1.0}
    assert totals.volume == {"buy": 4.5, "sell": 2.0}
    assert totals.position == 2.5
    assert totals.last_trade_ts == 1790000000.5
    assert totals.lost == 7
    assert totals.delivery == {0.001: 3.0, 0.1: 4.0, math.inf: 4.0}


def test_totals_are_of_all_symbols_together(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_symbol = """trades_total{side="buy",symbol="BTC-USD"} 2.0\nvolume_total{side="sell",symbol="other"} 0.5\n"""
    monkeypatch.setattr(Answering, "body", METRICS + by_symbol)
    totals = TotalsClient(url).ask()
    assert totals.trades == {"buy": 5.0, "sell": 1.0}
    assert totals.volume == {"buy": 4.5, "sell": 2.5}


def test_a_proxy_for_the_world_outside_is_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert TotalsClient(url).ask().trades["buy"] == 3.0


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
