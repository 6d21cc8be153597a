"""The program as it is run: its HTTP interface, its end, and what it says of settings that cannot work."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
import zmq
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from sidecar_process import MAIN, PROGRAM, Sidecar, eventually, free_port, run

BUY = b'{"type":"trade","side":"buy","qty":0.5,"ts":1790000000}'

type Start = Callable[..., Sidecar]
type Push = Callable[[int], zmq.Socket[bytes]]


def test_it_serves_what_it_received(sidecar: Start, push: Push) -> None:
    program = sidecar()
    program_push = push(program.zmq_port)
    for _ in range(3):
        program_push.send(BUY)
    program_push.send(b"rubbish")
    assert eventually(lambda: program.samples()["sidecar_messages_received_total"] == 4)
    samples = program.samples()
    assert samples['trades_total{side="buy"}'] == 3
    assert samples['trades_total{side="sell"}'] == 0
    assert samples['volume_total{side="buy"}'] == 1.5
    assert samples['volume_total{side="sell"}'] == 0
    assert samples["last_trade_ts_seconds"] == 1790000000
    assert samples["trades_lost_total"] == 0
    assert samples["trade_delivery_seconds_count"] == 3
    assert samples['sidecar_messages_rejected_total{reason="not_json"}'] == 1
    assert samples["sidecar_trades_duplicate_total"] == 0
    assert samples["sidecar_trades_out_of_sequence_total"] == 0
    assert samples["sidecar_sessions"] == 0
    assert samples["sidecar_symbols"] == 0
    assert samples['notional_total{side="buy"}'] == samples['notional_total{side="sell"}'] == 0
    assert not any("symbol=" in name for name in samples)
    assert samples["sidecar_commit_seconds_count"] >= 1
    assert samples["sidecar_commit_failures_total"] == 0
    assert samples["process_cpu_seconds_total"] > 0
    assert any(name.startswith("python_info") for name in samples)


def test_metrics_speak_the_format_that_is_asked_for(sidecar: Start) -> None:
    program = sidecar()
    status, content_type, text = program.get("/metrics/")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert "# TYPE trades_total counter" in text
    status, content_type, text = program.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (status, content_type.split(";")[0]) == (200, "application/openmetrics-text")
    assert "# TYPE trades counter" in text
    assert text.endswith("# EOF\n")
    assert program.get("/metrics", Accept="application/openmetrics-text; version=latest")[0] == 200


def test_the_interface_describes_its_formats(sidecar: Start) -> None:
    paths = json.loads(sidecar().get("/openapi.json")[2])["paths"]
    formats = {path: set(operations["get"]["responses"]["200"]["content"]) for path, operations in paths.items()}
    assert formats == {
        "/metrics": {"text/plain", "application/openmetrics-text"},
        "/health": {"application/json"},
        "/sessions/{session}": {"application/json"},
        "/trades": {"application/json"},
    }


def test_it_listens_on_ipv6(sidecar: Start) -> None:
    program = sidecar(HOST="::")
    for host in "127.0.0.1", "[::1]":
        with urlopen(f"http://{host}:{program.port}/health", timeout=10) as response:
            assert response.status == 200


def test_health_is_json(sidecar: Start) -> None:
    status, content_type, body = sidecar().get("/health")
    assert (status, content_type, json.loads(body)) == (200, "application/json", {"status": "ok"})


def test_health_says_when_the_engine_has_died(sidecar: Start, push: Push) -> None:
    defect = "from metrics_sidecar.ledger import Ledger; Ledger.apply = None"
    program = sidecar([sys.executable, "-c", f"{defect}; {MAIN}"])
    push(program.zmq_port).send(BUY)
    assert eventually(lambda: program.get("/health")[0] == 503)
    failing = {"status": "failing", "problems": ["the engine is not running"]}
    assert json.loads(program.get("/health")[2]) == failing
    assert program.get("/metrics")[0] == 503
    assert "TypeError" in program.output


def test_while_the_disk_hangs_health_says_so_and_the_rest_goes_on(sidecar: Start, push: Push) -> None:
    defect = "import time; from metrics_sidecar.store import Store; Store.commit = lambda *_: time.sleep(1000)"
    program = sidecar([sys.executable, "-c", f"{defect}; {MAIN}"])
    push(program.zmq_port).send(BUY)
    assert eventually(lambda: program.get("/health")[0] == 503)
    with ThreadPoolExecutor() as pool:
        started = time.monotonic()
        health = pool.submit(program.get, "/health")
        while not health.done():
            assert program.get("/openapi.json")[0] == 200
        assert time.monotonic() - started < 1.8
    status, _, body = health.result()
    assert (status, json.loads(body)["problems"]) == (503, ["the engine has not answered for 1 s"])
    assert program.get("/metrics")[0] == program.get("/sessions/a")[0] == 503
    program.stop()
    assert "the engine did not stop in time" in program.output


def test_a_message_without_end_costs_its_sender_the_connection(sidecar: Start, push: Push) -> None:
    limit = 192 * 2**20
    small = f"from metrics_sidecar.engine import Engine; Engine.__init__.__kwdefaults__['memory_limit'] = {limit}"
    program = sidecar([sys.executable, "-c", f"{small}; {MAIN}"])
    honest = push(program.zmq_port)
    honest.send(tracked(1))
    assert eventually(lambda: bought(program) == 1)
    before = program.peak_memory
    for _ in range(3):
        assert eventually(lambda: send_without_end(program.zmq_port) >= limit)
    assert program.peak_memory - before < 2 * limit
    assert "memory limit exceeded" in program.output

    def is_counted() -> bool:
        honest.send(tracked(2))
        return bought(program) == 2

    assert eventually(is_counted)
    assert program.is_up()


def send_without_end(port: int) -> int:
    """Send frames of 1 MiB that announce another, as libzmq itself never does; how many bytes went until the end."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
    frame = b"\x03" + (2**20).to_bytes(8) + bytes(2**20)
    sent = 0
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready)
        while sent < 2**33:
            connection.sendall(frame)
            sent += len(frame)
    return sent


def test_totals_survive_a_stop_and_a_start(sidecar: Start, push: Push) -> None:
    program = sidecar()
    push(program.zmq_port).send(BUY)
    assert eventually(lambda: program.samples()['trades_total{side="buy"}'] == 1)
    state_id = json.loads(program.get("/sessions/a")[2])["state_id"]
    program.stop()
    program.start()
    assert eventually(program.is_up)
    assert program.samples()['trades_total{side="buy"}'] == 1
    assert json.loads(program.get("/sessions/a")[2])["state_id"] == state_id


def created(program: Sidecar) -> dict[str, float]:
    """Since when each counter counts, as OpenMetrics says it; every counter and histogram must."""
    text = program.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")[2]
    said: dict[str, float] = {}
    for family in openmetrics_families(text):  # type: ignore[no-untyped-call]
        if family.type in {"counter", "histogram"}:
            series = {sample.labels.get("symbol", "") for sample in family.samples}
            births = [sample for sample in family.samples if sample.name == f"{family.name}_created"]
            assert {sample.labels.get("symbol", "") for sample in births} == series, family.name
            said |= {f"{family.name} {sample.labels.get('symbol', '')}".strip(): sample.value for sample in births}
    return said


def test_openmetrics_says_since_when_each_counter_counts(sidecar: Start, push: Push) -> None:
    before = time.time()
    program = sidecar()
    socket = push(program.zmq_port)
    admitted = time.time()
    socket.send(b'{"type": "trade", "side": "buy", "qty": 1.0, "ts": 1790000000, "symbol": "BTC-USD", "price": 2.0}')
    assert eventually(lambda: "trades BTC-USD" in created(program))
    first = created(program)
    assert before - 0.01 <= first["trades"] <= admitted
    assert admitted <= first["trades BTC-USD"] <= time.time()
    of_state = {"trades", "volume", "notional", "trades_lost", "sidecar_trades_tracked"}
    assert {first[name] for name in of_state} == {first["trades"]}
    assert {first[f"{name} BTC-USD"] for name in ("trades", "volume", "notional")} == {first["trades BTC-USD"]}
    of_process = {name for name in first if name not in of_state and not name.endswith("BTC-USD")}
    assert "trade_delivery_seconds" in of_process
    assert "process_cpu_seconds" in of_process
    program.stop()
    restarted = time.time()
    program.start()
    assert eventually(program.is_up)
    again = created(program)
    assert {name for name, at in again.items() if at != first[name]} == of_process
    assert min(again[name] for name in of_process) >= restarted


def test_the_text_format_has_no_created(sidecar: Start) -> None:
    program = sidecar()
    for accept in "", "text/plain", "text/plain;version=0.0.4", "text/plain;version=1.0.0":
        assert "_created" not in program.get("/metrics", Accept=accept)[2]


def test_with_an_empty_state_nothing_is_kept(sidecar: Start, push: Push) -> None:
    program = sidecar(SIDECAR_STATE="")
    push(program.zmq_port).send(BUY)
    assert eventually(lambda: program.samples()['trades_total{side="buy"}'] == 1)
    program.stop()
    program.start()
    assert eventually(program.is_up)
    assert program.samples()['trades_total{side="buy"}'] == 0


def test_a_cursor_is_told_once_it_is_committed(sidecar: Start, push: Push) -> None:
    program = sidecar()
    unknown = json.loads(program.get("/sessions/bot-1")[2])
    assert unknown == {"session": "bot-1", "next_seq": 1, "state_id": unknown["state_id"]}
    socket = push(program.zmq_port)
    for seq in (1, 2, 4, 2, 3):
        socket.send(tracked(seq))
    assert eventually(lambda: json.loads(program.get("/sessions/bot-1")[2])["next_seq"] == 4)
    samples = program.samples()
    assert samples['trades_total{side="buy"}'] == 3
    assert samples["sidecar_trades_duplicate_total"] == 1
    assert samples["sidecar_trades_out_of_sequence_total"] == 1
    assert samples["sidecar_trades_tracked_total"] == 3
    assert samples["sidecar_sessions"] == 1
    assert program.get("/sessions/a%20b")[0] == 422


def test_a_kill_takes_back_nothing_that_was_shown(sidecar: Start, push: Push) -> None:
    program = sidecar()
    socket = push(program.zmq_port)
    for count in (1000, 2000, 3000):
        for seq in range(1, count + 1):
            socket.send(tracked(seq))
        shown = eventually(partial(bought_more_than, program, count - 1000))
        program.stop(signal.SIGKILL)
        program.start()
        assert eventually(program.is_up)
        kept = bought(program)
        assert kept >= shown
        assert json.loads(program.get("/sessions/bot-1")[2])["next_seq"] == kept + 1
        for seq in range(1, count + 1):
            socket.send(tracked(seq))
        assert eventually(partial(bought_more_than, program, count - 1)) == count


def test_under_hot_reload_a_killed_process_is_replaced(sidecar: Start, push: Push) -> None:
    program = sidecar([*PROGRAM, "--reload"])
    push(program.zmq_port).send(tracked(1))
    assert eventually(lambda: bought(program) == 1)
    (worker,) = re.findall(r"Started server process \[(\d+)\]", program.output)
    os.kill(int(worker), signal.SIGKILL)
    assert eventually(lambda: "was killed: starting a new one" in program.output)
    assert eventually(program.is_up)
    assert bought(program) == 1


def test_on_a_full_disk_it_stops_taking_and_goes_on_when_there_is_room(
    sidecar: Start, push: Push, small_disk: Path
) -> None:
    program = sidecar(SIDECAR_STATE=str(small_disk / "state.sqlite3"))
    socket = push(program.zmq_port)
    socket.send(tracked(1))
    assert eventually(lambda: bought(program) == 1)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    # Enough cursors to need room on the disk.
    for number in range(5000):
        socket.send(tracked(1, f"session-{number}"))
    assert eventually(lambda: program.get("/health")[0] == 503)
    assert "cannot commit: database or disk is full" in program.get("/health")[2]
    assert program.samples()["sidecar_commit_failures_total"] >= 1
    shown = bought(program)
    ballast.unlink()
    assert eventually(program.is_up)
    assert eventually(lambda: bought(program) == 5001)
    assert shown <= bought(program)
    assert program.samples()["sidecar_sessions"] == 5001
    program.stop(signal.SIGKILL)
    program.start()
    assert eventually(program.is_up)
    assert bought(program) == 5001


def test_so_many_symbols_as_it_is_told_have_a_label(sidecar: Start, push: Push) -> None:
    program = sidecar(SIDECAR_SYMBOLS="1")
    socket = push(program.zmq_port)
    for symbol in b"BTC-USD", b"ETH-USD", b"BTC-USD":
        socket.send(BUY.replace(b"}", b',"symbol":"%s","price":10}' % symbol))
    expected = {
        'trades_total{side="buy"}': 0,
        'trades_total{side="sell"}': 0,
        'trades_total{side="buy",symbol="BTC-USD"}': 2,
        'trades_total{side="sell",symbol="BTC-USD"}': 0,
        'trades_total{side="buy",symbol="other"}': 1,
        'trades_total{side="sell",symbol="other"}': 0,
    }
    assert eventually(lambda: program.samples()["sidecar_messages_received_total"] == 3)
    samples = program.samples()
    assert {name: value for name, value in samples.items() if name.startswith("trades_total")} == expected
    assert samples['volume_total{side="buy",symbol="BTC-USD"}'] == 1
    assert samples['notional_total{side="buy",symbol="BTC-USD"}'] == 10
    assert samples["sidecar_symbols"] == 1


def test_it_shows_the_trades_counted_last(sidecar: Start, push: Push) -> None:
    program = sidecar()
    assert json.loads(program.get("/trades")[2]) == []
    socket = push(program.zmq_port)
    started = time.time()
    for seq in range(1, 151):
        socket.send(tracked(seq))
    socket.send(tracked(7))
    socket.send(BUY.replace(b"}", b',"symbol":"BTC-USD","price":10}').replace(b"buy", b"sell"))
    assert eventually(lambda: program.samples()["sidecar_messages_received_total"] == 152)
    newest, second, *others = json.loads(program.get("/trades")[2])
    assert len(others) == 98
    times = [trade.pop("received_at") for trade in (newest, second)]
    assert started <= times[1] <= times[0] <= time.time()
    assert newest == {
        "side": "sell",
        "qty": 0.5,
        "ts": 1790000000.0,
        "symbol": "BTC-USD",
        "price": 10.0,
        "session": None,
        "seq": None,
    }
    assert second == {
        "side": "buy",
        "qty": 0.5,
        "ts": 1790000000.0,
        "symbol": None,
        "price": None,
        "session": "bot-1",
        "seq": 150,
    }
    assert [trade["seq"] for trade in others] == list(range(149, 51, -1))
    assert len(json.loads(program.get("/trades?limit=1000")[2])) == 151
    assert len(json.loads(program.get("/trades?limit=1")[2])) == 1
    for limit in "0", "1001", "x":
        assert program.get(f"/trades?limit={limit}")[0] == 422


@pytest.mark.parametrize("replaced", [False, True])
def test_a_state_file_that_is_gone_stops_it_until_it_is_back(
    sidecar: Start, push: Push, tmp_path: Path, replaced: bool
) -> None:
    program = sidecar()
    path, away = Path(program.settings["SIDECAR_STATE"]), tmp_path / "away"
    socket = push(program.zmq_port)
    socket.send(tracked(1))
    assert eventually(lambda: bought(program) == 1)
    path.rename(away)
    if replaced:
        path.write_bytes(away.read_bytes())
    status, _, body = program.get("/health")
    assert status == 503
    gone = f"the state file {path} was removed or replaced: put it back, or restart to start from zero"
    assert json.loads(body)["problems"] == [f"cannot commit: {gone}"]
    for seq in 2, 3:
        socket.send(tracked(seq))
    failures = program.samples()["sidecar_commit_failures_total"]
    assert eventually(lambda: program.samples()["sidecar_commit_failures_total"] > failures)
    samples = program.samples()
    assert (samples['trades_total{side="buy"}'], samples["sidecar_messages_received_total"]) == (1, 1)
    assert json.loads(program.get("/sessions/bot-1")[2])["next_seq"] == 2
    assert program.get("/trades")[0] == 503
    away.replace(path)
    assert eventually(program.is_up)
    assert eventually(lambda: bought(program) == 3)
    program.stop(signal.SIGKILL)
    program.start()
    assert eventually(program.is_up)
    assert bought(program) == 3


def test_a_commit_notices_that_the_state_file_is_gone(sidecar: Start, push: Push) -> None:
    program = sidecar()
    Path(program.settings["SIDECAR_STATE"]).unlink()
    push(program.zmq_port).send(tracked(1))
    assert eventually(lambda: "was removed or replaced: put it back, or restart" in program.output)
    assert bought(program) == 0
    program.stop()
    program.start()
    assert eventually(program.is_up)
    assert "Traceback" not in program.output


@pytest.mark.parametrize("arguments", [[], ["--reload"]])
def test_a_damaged_state_file_ends_it_with_one_line(sidecar: Start, push: Push, arguments: list[str]) -> None:
    program = sidecar()
    push(program.zmq_port).send(tracked(1))
    assert eventually(lambda: bought(program) == 1)
    program.stop()
    path = Path(program.settings["SIDECAR_STATE"])
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"bot-1")] ^= 1
    path.write_bytes(damaged)
    program.program = [*program.program, *arguments]
    ended = run(program)
    assert ended.returncode == 1
    cause = "damaged: the content does not match its checksum"
    remedy = "Restore it from a backup, or move it away to start from zero"
    assert ended.stderr == f"metrics-sidecar: SIDECAR_STATE={path}: {cause}. {remedy}\n"


def tracked(seq: int, session: str = "bot-1") -> bytes:
    return b'{"type":"trade","side":"buy","qty":0.5,"ts":1790000000,"session":"%s","seq":%d}' % (session.encode(), seq)


def bought(program: Sidecar) -> float:
    return program.samples()['trades_total{side="buy"}']


def bought_more_than(program: Sidecar, count: float) -> float:
    total = bought(program)
    return total if total > count else 0.0


@pytest.mark.parametrize("arguments", [[], ["--reload"]])
@pytest.mark.parametrize(
    "settings, line",
    [
        ({"PORT": "abc"}, "PORT=abc: not a port. Use a number from 1 to 65535"),
        ({"PORT": "99999"}, "PORT=99999: not a port. Use a number from 1 to 65535"),
        ({"HOST": "192.0.2.1"}, "HOST=192.0.2.1: "),
        ({"SIDECAR_ZMQ_BIND": "tcp://nowhere"}, "SIDECAR_ZMQ_BIND=tcp://nowhere: not a ZeroMQ address. Use the form"),
        ({"SIDECAR_ZMQ_BIND": "tcp://0.0.0.0:99999"}, "SIDECAR_ZMQ_BIND=tcp://0.0.0.0:99999: not a ZeroMQ address"),
        ({"SIDECAR_ZMQ_BIND": "tcp://192.0.2.1:5555"}, "SIDECAR_ZMQ_BIND=tcp://192.0.2.1:5555: "),
        ({"SIDECAR_ZMQ_BIND": "ipc://"}, "SIDECAR_ZMQ_BIND=ipc://: not a ZeroMQ address. Use the form"),
        (
            {"SIDECAR_ZMQ_BIND": f"ipc:///{'a' * 107}"},
            f"SIDECAR_ZMQ_BIND=ipc:///{'a' * 107}: the path has 108 bytes, the limit is 107. Use a shorter path",
        ),
        ({"HOST": "ü" * 70}, f"HOST={'ü' * 70}: not an address. Use an address of this machine"),
        ({"HOST": ""}, "HOST=: not an address. Use an address of this machine"),
        ({"PORT": "8001.0"}, "PORT=8001.0: not a port. Use a number from 1 to 65535"),
        ({"SIDECAR_SYMBOLS": "many"}, "SIDECAR_SYMBOLS=many: not a number of symbols. Use a number from 0 to 10000"),
        ({"SIDECAR_SYMBOLS": "-1"}, "SIDECAR_SYMBOLS=-1: not a number of symbols"),
        ({"SIDECAR_SYMBOLS": "1e2"}, "SIDECAR_SYMBOLS=1e2: not a number of symbols"),
        ({"SIDECAR_SYMBOLS": "10001"}, "SIDECAR_SYMBOLS=10001: not a number of symbols"),
        ({"SIDECAR_SYMBOLS": ""}, "SIDECAR_SYMBOLS=: not a number of symbols"),
        ({"SIDECAR_STATE": "/proc/state.sqlite3"}, "SIDECAR_STATE=/proc/state.sqlite3: "),
    ],
)
def test_a_setting_that_cannot_work_ends_it_with_one_line(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], line: str
) -> None:
    ended = run(Sidecar(tmp_path, [*PROGRAM, *arguments], **settings))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"metrics-sidecar: {line}")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--reload"]])
def test_a_taken_port_ends_it_with_one_line(tmp_path: Path, arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        for settings in {"PORT": str(port)}, {"SIDECAR_ZMQ_BIND": f"tcp://127.0.0.1:{port}"}:
            ended = run(Sidecar(tmp_path, [*PROGRAM, *arguments], **settings))
            ((key, value),) = settings.items()
            assert ended.returncode == 1
            assert ended.stderr.startswith(f"metrics-sidecar: {key}={value}: another program listens there. Stop it")
            assert ended.stderr.count("\n") == 1


def test_two_sidecars_cannot_share_a_state_file(sidecar: Start, tmp_path: Path) -> None:
    first = sidecar()
    ended = run(Sidecar(tmp_path, PROGRAM, SIDECAR_STATE=first.settings["SIDECAR_STATE"]))
    assert ended.returncode == 1
    assert "another sidecar holds this file" in ended.stderr
