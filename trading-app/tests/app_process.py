"""The real programs, run as processes, and what they need around them."""

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
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import zmq

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
    """The first true answer; the last one if none comes in time."""
    deadline = time.monotonic() + timeout
    while not (last := answer()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return last


def free_port() -> int:
    """A port that nobody holds, nor is given by this function in another process."""
    return next(_free_ports)


def _ports_of_this_process() -> Iterator[int]:
    """Ports below those that the kernel gives to outgoing connections, of a block whose first this process holds."""
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


def program(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"from trading_app.{module} import main; main()", *arguments]


def run(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        program(module, *arguments),
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class _StayHere(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def request(url: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body, redirects not followed; status 0 while nobody answers."""
    try:
        with build_opener(_StayHere).open(Request(url, body, headers), timeout=10) as response:
            return response.status, dict(response.headers), response.read().decode()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()
    except OSError:
        return 0, {}, ""


class FakeSidecar:
    """What a publisher sees of a sidecar: a socket that takes trades, an address that tells what is committed.

    It comes and goes as a sidecar does. While ``commits`` it commits what arrives in sequence. ``metrics`` is what it
    has counted, ``counted`` the trades it counted last, as they are in its answers.
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
        """Settings of a program that publishes to it, with its outbox in memory, and neither Prometheus nor Grafana."""
        nobody = f"http://127.0.0.1:{free_port()}"
        return {
            "WEBAPP_ZMQ_ADDR": self.address,
            "WEBAPP_SIDECAR_URL": self.url,
            "WEBAPP_PROMETHEUS_URL": nobody,
            "WEBAPP_GRAFANA_URL": nobody,
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
        """Be gone, as a process is that was killed."""
        if self._open:
            self._open.close()
            self._open = None

    def receive(self, timeout: float = 10.0) -> dict[str, Any]:
        """The next message.

        Raises:
            queue.Empty: none came within ``timeout`` seconds.
        """
        return self._arrived.get(timeout=timeout)

    def receive_all(self) -> list[dict[str, Any]]:
        """What has come so far."""
        return [self._arrived.get() for _ in range(self._arrived.qsize())]

    def is_silent(self) -> bool:
        """Nothing comes for a while. A pause is all that can show it."""
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
            answers = {"/metrics": sidecar.metrics, "/trades": json.dumps(sidecar.counted)}
            self.wfile.write(answers.get(urlsplit(self.path).path, json.dumps(cursor)).encode())

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", sidecar.port), Handler)
