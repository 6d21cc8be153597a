"""The ways in which an application can report a trade: each yields a function that emits one trade."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from http.client import HTTPConnection
from importlib import import_module
from pathlib import Path
from typing import Any

import zmq
from harness.ports import free_port
from harness.sidecar import Sidecar
from harness.waiting import eventually

from benchmarks.programs import Child, NotInstalled, RestartingSidecar, answers
from trading_app.messages import Trade, encode
from trading_app.publisher import TradePublisher

type Emit = Callable[[], object]
type Emitter = Callable[[Path], AbstractContextManager[Emit]]
SYMBOL, PRICE = "BTC-USD", 64250.5


@contextmanager
def pushing() -> Iterator[zmq.Socket[bytes]]:
    """A PUSH socket that never waits, connected to a receiver that drains it."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with Child("peers/bare.py", address, 10**12) as child, zmq.Context() as context, context.socket(zmq.PUSH) as push:
        child.read()
        push.set(zmq.SNDHWM, 0)
        push.set(zmq.LINGER, 0)
        push.connect(address)
        push.send(b"")
        assert push.poll(10_000, zmq.POLLOUT)
        yield push


@contextmanager
def raw_send(symbol: str | None, price: float | None, _: Path) -> Iterator[Emit]:
    message = encode(Trade("buy", 1.0, time.time(), "0123456789abcdef", 1_000, symbol, price))
    with pushing() as push:
        yield partial(push.send, message)


@contextmanager
def json_send(_: Path) -> Iterator[Emit]:
    with pushing() as push:
        yield lambda: push.send_string(json.dumps({"type": "trade", "side": "buy", "qty": 1.0, "ts": time.time()}))


@contextmanager
def publish(outbox: str | None, sidecar: type[Sidecar] | None, trade: dict[str, Any], folder: Path) -> Iterator[Emit]:
    """The publisher. If ``sidecar`` is None, no sidecar ever runs."""
    program = (sidecar or Sidecar)(folder)
    publisher = TradePublisher(program.address, sidecar_url=program.url, outbox=outbox and folder / outbox)
    try:
        with program if sidecar else nullcontext():
            publisher.publish("buy")
            assert not sidecar or publisher.flush(30)
            yield partial(publisher.publish, "buy", **trade)
    finally:
        publisher.close(timeout=0)


@contextmanager
def statsd_client(_: Path) -> Iterator[Emit]:
    statsd = installed("statsd")
    # Nobody reads: the kernel drops datagrams that do not fit, which costs the sender nothing.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        client = statsd.StatsClient("127.0.0.1", receiver.getsockname()[1])

        def emit() -> None:
            with client.pipeline() as pipeline:
                pipeline.incr("trades.buy")
                pipeline.incr("volume.buy", 1.0)
                pipeline.gauge("last_trade_ts", time.time())

        yield emit


@contextmanager
def opentelemetry_sdk(_: Path) -> Iterator[Emit]:
    metrics = installed("opentelemetry.sdk.metrics")
    export = installed("opentelemetry.sdk.metrics.export")
    otlp = installed("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    with web_service() as url:
        exporter = otlp.OTLPMetricExporter(endpoint=f"{url}/v1/metrics")
        provider = metrics.MeterProvider([export.PeriodicExportingMetricReader(exporter, export_interval_millis=1_000)])
        meter = provider.get_meter("trades")
        trades, volume = meter.create_counter("trades"), meter.create_counter("volume")
        last_trade = meter.create_gauge("last_trade_ts")
        buy = {"side": "buy"}

        def emit() -> None:
            trades.add(1, buy)
            volume.add(1.0, buy)
            last_trade.set(time.time())

        yield emit
        provider.shutdown()


@contextmanager
def client_in_process(_: Path) -> Iterator[Emit]:
    client = installed("prometheus_client")
    registry = client.CollectorRegistry()
    trades = client.Counter("trades", "Trades.", ["side"], registry=registry).labels("buy")
    volume = client.Counter("volume", "Units.", ["side"], registry=registry).labels("buy")
    last_trade = client.Gauge("last_trade_ts_seconds", "Time of the last trade.", registry=registry)

    def emit() -> None:
        trades.inc()
        volume.inc(1.0)
        last_trade.set(time.time())

    yield emit


@contextmanager
def http_post(_: Path) -> Iterator[Emit]:
    with web_service() as url, closing(HTTPConnection(url.removeprefix("http://"))) as connection:

        def emit() -> None:
            body = json.dumps({"side": "buy", "qty": 1.0, "ts": time.time()})
            connection.request("POST", "/trade", body, {"Content-Type": "application/json"})
            connection.getresponse().read()

        yield emit


@contextmanager
def web_service() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with Child("peers/web.py", port):
        assert eventually(lambda: answers(url))
        yield url


def installed(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NotInstalled(f"{error.name} is not installed (bin/setup --bench)") from None


_FULL_TRADE = {"symbol": SYMBOL, "price": PRICE}
EMITTERS: dict[str, Emitter] = {
    "raw send": partial(raw_send, None, None),
    "publish(), memory journal": partial(publish, None, Sidecar, {}),
    "publish(), durable journal": partial(publish, "outbox", Sidecar, {}),
    "raw send, symbol and price": partial(raw_send, SYMBOL, PRICE),
    "publish(), memory journal, symbol and price": partial(publish, None, Sidecar, _FULL_TRADE),
    "publish(), durable journal, symbol and price": partial(publish, "outbox", Sidecar, _FULL_TRADE),
    "publish(), memory journal, sidecar away": partial(publish, None, None, {}),
    "publish(), durable journal, sidecar away": partial(publish, "outbox", None, {}),
    "publish(), memory journal, sidecar restarting": partial(publish, None, RestartingSidecar, {}),
    "publish(), durable journal, sidecar restarting": partial(publish, "outbox", RestartingSidecar, {}),
    "json.dumps, send_string": json_send,
    "statsd, UDP": statsd_client,
    "OpenTelemetry SDK": opentelemetry_sdk,
    "prometheus_client, in process": client_in_process,
    "HTTP POST to FastAPI": http_post,
}
