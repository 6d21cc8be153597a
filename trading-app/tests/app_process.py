"""Runs the real programs as processes, with a sidecar to publish to."""

import contextlib
import itertools
import json
import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import zmq

# Settings of a program whose coverage is measured. It takes twice as long to start, and leaves no data if it is killed,
# so only a program that the tests of a file share is worth it.
MEASURED = {key: value for key, value in os.environ.items() if key == "COVERAGE_PROCESS_CONFIG"}

METRICS = """\
# TYPE trades_total counter
trades_total{side="buy"} 3.0
trades_total{side="sell"} 1.0
# TYPE volume_total counter
volume_total{side="buy"} 4.5
volume_total{side="sell"} 2.0
# TYPE notional_total counter
notional_total{side="buy"} 0.0
notional_total{side="sell"} 0.0
# TYPE last_trade_ts_seconds gauge
last_trade_ts_seconds 1790000000.5
# TYPE trades_lost_total counter
trades_lost_total 7.0
# TYPE trade_delivery_seconds histogram
trade_delivery_seconds_bucket{le="0.001"} 3.0
trade_delivery_seconds_bucket{le="0.1"} 4.0
trade_delivery_seconds_bucket{le="+Inf"} 4.0
"""


def eventually[Answer](answer: Callable[[], Answer], timeout: float = 20.0) -> Answer:
    """Return the first true answer, or the last answer after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while not (last := answer()) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(1.5 * pause, 0.1)
    return last


def free_port() -> int:
    """Return a port that is not in use. Concurrent processes get different ports."""
    return next(_free_ports)


def _ports_of_this_process() -> Iterator[int]:
    """Yield free ports of a block that this process reserves by binding its first port.

    The block is below the range that the kernel uses for outgoing connections.
    """
    with socket.socket() as first:
        while not _takes(first, start := random.randrange(20_000, 32_000, 100)):
            continue
        for port in itertools.cycle(range(start + 1, start + 100)):
            with socket.socket() as probe:
                free = _takes(probe, port)
            if free:
                yield port


def _takes(holder: socket.socket, port: int) -> bool:
    try:
        holder.bind(("", port))
    except OSError:
        return False
    return True


_free_ports = _ports_of_this_process()


def environ(**settings: str) -> dict[str, str]:
    """The environment of a program. With `MEASURED` among its settings its coverage is measured."""
    return {key: value for key, value in os.environ.items() if key not in MEASURED} | settings


def program(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"from trading_app.{module} import main; main()", *arguments]


def run(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        program(module, *arguments),
        env=environ(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class _StayHere(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def request(url: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body without following redirects. The status is 0 if there is no answer."""
    try:
        with build_opener(_StayHere).open(Request(url, body, headers), timeout=10) as response:
            return response.status, dict(response.headers), response.read().decode()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()
    except OSError:
        return 0, {}, ""


class FakeSidecar:
    """The interface of a sidecar: a ZeroMQ socket that receives trades, and HTTP answers.

    `open` starts it and `close` stops it. While ``commits`` is true, it commits trades that arrive in sequence.
    ``metrics`` and ``counted`` are its answers to ``/metrics`` and ``/trades``.
    """

    def __init__(self) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.commits = True
        self.state_id = "first"
        self.metrics = METRICS
        self.counted: list[dict[str, Any]] = []
        self.requests = 0
        self.frames = 0
        self.next_seq: dict[str, int] = {}
        self._arrived: queue.Queue[dict[str, Any]] = queue.Queue()
        self._open: contextlib.ExitStack | None = None

    @property
    def environ(self) -> dict[str, str]:
        """Settings of a program that publishes to it, without an outbox folder, Prometheus or Grafana."""
        unused = f"http://127.0.0.1:{free_port()}"
        return {
            "WEBAPP_ZMQ_ADDR": self.address,
            "WEBAPP_SIDECAR_URL": self.url,
            "WEBAPP_PROMETHEUS_URL": unused,
            "WEBAPP_GRAFANA_URL": unused,
            "WEBAPP_OUTBOX": "",
        }

    def open(self) -> None:
        self._open = contextlib.ExitStack()
        stop = threading.Event()
        server = _server(self)
        bound = threading.Event()
        threads = [
            threading.Thread(target=self._take, args=(stop, bound)),
            threading.Thread(target=server.serve_forever, args=(0.01,)),
        ]
        for thread in threads:
            self._open.callback(thread.join)
            thread.start()
        self._open.callback(server.server_close)
        self._open.callback(server.shutdown)
        self._open.callback(stop.set)
        assert bound.wait(10)

    def close(self) -> None:
        """Stop at once, like a killed process."""
        if self._open:
            self._open.close()
            self._open = None

    def receive(self, timeout: float = 10.0) -> dict[str, Any]:
        """Return the next message.

        Raises:
            queue.Empty: no message arrived within ``timeout`` seconds.
        """
        return self._arrived.get(timeout=timeout)

    def receive_all(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived so far."""
        return [self._arrived.get() for _ in range(self._arrived.qsize())]

    def receive_distinct(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived so far, each once. A publisher repeats them if an answer is late."""
        return list({json.dumps(message): message for message in self.receive_all()}.values())

    def is_silent(self) -> bool:
        """Whether no message arrives within 0.2 s. Only a pause can show that."""
        time.sleep(0.2)
        return self._arrived.empty()

    def _take(self, stop: threading.Event, bound: threading.Event) -> None:
        with zmq.Context() as context, context.socket(zmq.PULL) as pull:
            pull.setsockopt(zmq.LINGER, 0)
            pull.bind(self.address)
            bound.set()
            while not stop.is_set():
                if pull.poll(10):
                    self.frames += 1
                    for line in pull.recv().splitlines():
                        message = json.loads(line)
                        if self.commits:
                            self._commit(message)
                        self._arrived.put(message)

    def _commit(self, message: dict[str, Any]) -> None:
        expected = self.next_seq.get(message["session"], 1)
        if message["type"] == "gap_fill":
            self.next_seq[message["session"]] = max(expected, message["new_seq"])
        elif message["seq"] == expected:
            self.next_seq[message["session"]] = expected + 1


def _server(sidecar: FakeSidecar) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sidecar.requests += 1
            session = self.path.removeprefix("/sessions/")
            next_seq = sidecar.next_seq.get(session, 1)
            cursor = {"session": session, "next_seq": next_seq, "state_id": sidecar.state_id}
            self.send_response(200)
            self.end_headers()
            url = urlsplit(self.path)
            trades = sidecar.counted[: int(parse_qs(url.query).get("limit", ["100"])[0])]
            answers = {"/metrics": sidecar.metrics, "/trades": json.dumps(trades)}
            self.wfile.write(answers.get(url.path, json.dumps(cursor)).encode())

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", sidecar.port), Handler)
