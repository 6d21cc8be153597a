"""The Prometheus client, against canned answers. Browser tests use a real Prometheus."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from trading_app.ui.prometheus import Prometheus
from trading_app.unreachable import Unreachable

type Answer = Callable[[str], Any]


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], Prometheus]]:
    """Starts a server that answers each query with a given ``result``."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> Prometheus:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)["query"][0]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"data": {"result": answer(query)}}).encode())

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,)).start()
        return Prometheus(f"http://127.0.0.1:{servers[-1].server_address[1]}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_points_have_a_rate_for_each_side(answering: Callable[[Answer], Prometheus]) -> None:
    def answer(query: str) -> Any:
        samples = [[100, "1"], [102, "3"]] if "buy" in query else [[102, "4"]]
        return [{"metric": {}, "values": samples}]

    points = answering(answer).points(300.0, 2.0)
    assert [(point.at, point.rates) for point in points] == [
        (100.0, {"buy": 1.0, "sell": 0.0}),
        (102.0, {"buy": 3.0, "sell": 4.0}),
    ]


def test_positions_are_queried_by_symbol(answering: Callable[[Answer], Prometheus]) -> None:
    def answer(query: str) -> Any:
        return [{"metric": {}, "values": [[100, "1.5"], [102, "-2"]]}] if query.count('symbol="BTC-USD"') == 2 else []

    assert answering(answer).positions("BTC-USD", 300.0, 2.0) == [(100.0, 1.5), (102.0, -2.0)]
    assert answering(answer).positions("", 300.0, 2.0) == []


@pytest.mark.parametrize("value, sees", [("1", True), ("0", False), (None, False)])
def test_it_reports_whether_the_sidecar_is_scraped(
    answering: Callable[[Answer], Prometheus], value: str | None, sees: bool
) -> None:
    result = [{"metric": {}, "value": [100, value]}] if value else []
    assert answering(lambda _: result).sees_sidecar() == sees


@pytest.mark.parametrize("result", [None, 5, [5], [{}], [{"value": None}], [{"value": ["x", "y"]}], [[]]])
def test_an_unexpected_answer_counts_as_unreachable(answering: Callable[[Answer], Prometheus], result: Any) -> None:
    with pytest.raises(Unreachable):
        answering(lambda _: result).sees_sidecar()
