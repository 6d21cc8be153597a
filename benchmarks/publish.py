"""What one trade costs the thread of the application that emits it."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from importlib import import_module
from pathlib import Path
from typing import Any

import zmq
from plan import Plan
from programs import Child, NotInstalled, answers, sidecar
from results import Column, Table, percentile
from stack import eventually, free_port

from trading_app.messages import Trade, encode
from trading_app.outbox import FileOutbox, MemoryOutbox
from trading_app.publisher import TradePublisher

BURST = 100
type Call = Callable[[], object]


@contextmanager
def pushing() -> Iterator[zmq.Socket[bytes]]:
    """A PUSH socket with someone at the other end who takes everything."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with Child("peers/bare.py", address, 10**12) as child, zmq.Context() as context, context.socket(zmq.PUSH) as push:
        child.read()
        push.connect(address)
        push.send(b"")  # connects
        yield push
        push.close(linger=0)


@contextmanager
def raw_send(_: Path) -> Iterator[Call]:
    message = encode(Trade("buy", 1.0, time.time(), "0123456789abcdef", 1_000))
    with pushing() as push:
        yield partial(push.send, message)


@contextmanager
def json_send(_: Path) -> Iterator[Call]:
    with pushing() as push:
        yield lambda: push.send_string(json.dumps({"type": "trade", "side": "buy", "qty": 1.0, "ts": time.time()}))


@contextmanager
def memory_outbox(folder: Path) -> Iterator[Call]:
    with publishing(folder, MemoryOutbox()) as call:
        yield call


@contextmanager
def durable_outbox(folder: Path) -> Iterator[Call]:
    with publishing(folder, FileOutbox(folder / "outbox")) as call:
        yield call


@contextmanager
def publishing(folder: Path, outbox: MemoryOutbox) -> Iterator[Call]:
    with (
        sidecar(folder) as program,
        TradePublisher(program.address, sidecar_url=program.url, outbox=outbox) as publisher,
    ):
        publisher.publish("buy")  # connects
        assert publisher.flush()
        yield partial(publisher.publish, "buy")


@contextmanager
def statsd_client(_: Path) -> Iterator[Call]:
    statsd = installed("statsd")
    # Nobody reads: the kernel drops what does not fit, which costs the sender no more.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        client = statsd.StatsClient("127.0.0.1", receiver.getsockname()[1])

        def call() -> None:
            with client.pipeline() as pipeline:
                pipeline.incr("trades.buy")
                pipeline.incr("volume.buy", 1.0)
                pipeline.gauge("last_trade_ts", time.time())

        yield call


@contextmanager
def opentelemetry_sdk(_: Path) -> Iterator[Call]:
    metrics = installed("opentelemetry.sdk.metrics")
    export = installed("opentelemetry.sdk.metrics.export")
    otlp = installed("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    with web_service() as port:
        exporter = otlp.OTLPMetricExporter(endpoint=f"http://127.0.0.1:{port}/v1/metrics")
        provider = metrics.MeterProvider([export.PeriodicExportingMetricReader(exporter, export_interval_millis=1_000)])
        meter = provider.get_meter("trades")
        trades, volume = meter.create_counter("trades"), meter.create_counter("volume")
        last_trade = meter.create_gauge("last_trade_ts")
        buy = {"side": "buy"}

        def call() -> None:
            trades.add(1, buy)
            volume.add(1.0, buy)
            last_trade.set(time.time())

        yield call
        provider.shutdown()


@contextmanager
def client_in_process(_: Path) -> Iterator[Call]:
    client = installed("prometheus_client")
    registry = client.CollectorRegistry()
    trades = client.Counter("trades", "Trades.", ["side"], registry=registry).labels("buy")
    volume = client.Counter("volume", "Units.", ["side"], registry=registry).labels("buy")
    last_trade = client.Gauge("last_trade_ts_seconds", "Time of the last trade.", registry=registry)

    def call() -> None:
        trades.inc()
        volume.inc(1.0)
        last_trade.set(time.time())

    yield call


@contextmanager
def http_post(_: Path) -> Iterator[Call]:
    with web_service() as port, closing(HTTPConnection("127.0.0.1", port)) as connection:

        def call() -> None:
            body = json.dumps({"side": "buy", "qty": 1.0, "ts": time.time()})
            connection.request("POST", "/trade", body, {"Content-Type": "application/json"})
            connection.getresponse().read()

        yield call


@contextmanager
def web_service() -> Iterator[int]:
    port = free_port()
    with Child("peers/web.py", port):
        assert eventually(lambda: answers(port))
        yield port


def installed(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NotInstalled(f"{error.name} is not installed (bin/setup --bench)") from None


CONTESTANTS = {
    "raw send": raw_send,
    "publish(), memory outbox": memory_outbox,
    "publish(), durable outbox": durable_outbox,
    "json.dumps, send_string": json_send,
    "statsd, UDP": statsd_client,
    "OpenTelemetry SDK": opentelemetry_sdk,
    "prometheus_client, in process": client_in_process,
    "HTTP POST to FastAPI": http_post,
}

TABLE = Table(
    "The publisher: one call",
    "raw send",
    (
        Column("in a burst", "us", 1e6, 2),
        Column("p99 in a burst", "us", 1e6, 1),
        Column("alone", "us", 1e6, 1),
        Column("p99 alone", "us", 1e6, 1),
    ),
    tuple(CONTESTANTS),
)


def measure(name: str, folder: Path, plan: Plan) -> None:
    with CONTESTANTS[name](folder) as call:
        # A round trip a call takes long enough by itself.
        calls = plan.calls if call_time(call) < 1e-4 else plan.lone_calls
        burst = timed(call, calls, BURST, 0.005)
        alone = timed(call, plan.lone_calls, 1, 0.001)
    TABLE.add(
        name,
        **{
            "in a burst": percentile(burst, 50),
            "p99 in a burst": percentile(burst, 99),
            "alone": percentile(alone, 50),
            "p99 alone": percentile(alone, 99),
        },
    )


def timed(call: Call, count: int, burst: int, pause: float) -> list[float]:
    """Seconds of each of ``count`` calls, with a ``pause`` after so many of them."""
    clock = time.perf_counter
    times = []
    for number in range(1, count + 1):
        started = clock()
        call()
        times.append(clock() - started)
        if not number % burst:
            time.sleep(pause)
    return times


def call_time(call: Call) -> float:
    return percentile(timed(call, BURST, BURST, 0.0), 50)
