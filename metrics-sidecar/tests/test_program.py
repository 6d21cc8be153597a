"""The program as a process: its HTTP interface, kills and restarts, and its errors."""

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
import zmq
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from sidecar_process import MAIN, MEASURED, PROGRAM, Sidecar, eventually, free_port, run

from metrics_sidecar.messages import Trade
from metrics_sidecar.store import Store

pytestmark = pytest.mark.slow

BUY = b'{"type":"trade","side":"buy","qty":0.5,"ts":1790000000}'

type Start = Callable[..., Sidecar]
type Push = Callable[[int], zmq.Socket[bytes]]
type ExitLine = Callable[..., str]


def tracked(seq: int, session: str = "bot-1") -> bytes:
    return b'{"type":"trade","side":"buy","qty":0.5,"ts":1790000000,"session":"%s","seq":%d}' % (session.encode(), seq)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that receives nothing, shared by the tests of this module."""
    program = Sidecar(tmp_path_factory.mktemp("idle"), PROGRAM, **MEASURED)
    program.start()
    yield program
    program.stop()


def test_metrics_report_every_message_received(sidecar: Start, push: Push) -> None:
    program = sidecar()
    socket = push(program.zmq_port)
    for _ in range(3):
        socket.send(BUY)
    socket.send(b"rubbish")
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


def test_metrics_are_served_in_the_format_that_accept_asks_for(idle: Sidecar) -> None:
    status, content_type, text = idle.get("/metrics/")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert "# TYPE trades_total counter" in text
    status, content_type, text = idle.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (status, content_type.split(";")[0]) == (200, "application/openmetrics-text")
    assert "# TYPE trades counter" in text
    assert text.endswith("# EOF\n")
    assert idle.get("/metrics", Accept="application/openmetrics-text; version=latest")[0] == 200


def test_openapi_lists_the_content_types_of_each_path(idle: Sidecar) -> None:
    paths = json.loads(idle.get("/openapi.json")[2])["paths"]
    formats = {path: set(operations["get"]["responses"]["200"]["content"]) for path, operations in paths.items()}
    assert formats == {
        "/metrics": {"text/plain", "application/openmetrics-text"},
        "/health": {"application/json"},
        "/sessions/{session}": {"application/json"},
        "/trades": {"application/json"},
    }


def test_the_host_may_be_an_ipv6_address(sidecar: Start) -> None:
    program = sidecar(HOST="::")
    for host in "127.0.0.1", "[::1]":
        with urlopen(f"http://{host}:{program.port}/health", timeout=10) as response:
            assert response.status == 200


def test_health_is_json(idle: Sidecar) -> None:
    status, content_type, body = idle.get("/health")
    assert (status, content_type, json.loads(body)) == (200, "application/json", {"status": "ok"})


def test_a_defect_in_the_engine_ends_the_sidecar_so_that_it_can_be_started_again(sidecar: Start, push: Push) -> None:
    defect = "from metrics_sidecar.ledger import Ledger; Ledger.apply = None"
    program = sidecar([sys.executable, "-c", f"{defect}; {MAIN}"])
    push(program.zmq_port).send(BUY)
    assert program.wait() == -signal.SIGABRT
    assert "the engine failed; publishers resend tracked trades" in program.output
    assert "TypeError" in program.output
    program.start()


def test_while_the_disk_hangs_the_engine_paths_fail_and_the_others_answer(sidecar: Start, push: Push) -> None:
    hang = "import time; from metrics_sidecar.store import Store; Store.commit = lambda *_: time.sleep(1000)"
    patience = "from metrics_sidecar import engine, questions; questions.ANSWER_SECONDS = engine.STOP_SECONDS = 0.5"
    program = sidecar([sys.executable, "-c", f"{hang}; {patience}; {MAIN}"])
    push(program.zmq_port).send(BUY)
    assert eventually(lambda: program.get("/health")[0] == 503)
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        failing = [pool.submit(program.get, path) for path in ("/health", "/metrics", "/sessions/a", "/trades")]
        answered = 0
        while not all(answer.done() for answer in failing):
            assert program.get("/openapi.json")[0] == 200
            answered += 1
    assert time.monotonic() - started < 1.8
    assert answered > 3
    for answer in failing:
        status, _, body = answer.result()
        assert (status, json.loads(body)["problems"]) == (503, ["the engine has not answered for 0.5 s"])
    program.stop()
    assert "the engine did not stop in time" in program.output


def test_an_endless_message_closes_its_connection_and_the_others_recover(sidecar: Start, push: Push) -> None:
    limit = 192 * 2**20
    small = f"from metrics_sidecar.engine import Engine; Engine.__init__.__kwdefaults__['memory_limit'] = {limit}"
    program = sidecar([sys.executable, "-c", f"{small}; {MAIN}"])
    require_memory_is_limited(program, push, limit)


def test_the_memory_stays_below_the_limit_of_a_container(
    sidecar: Start, push: Push, mount_namespace: list[str]
) -> None:
    limit = 256 * 2**20
    mount = f"mount -t tmpfs none /sys/fs/cgroup && echo {limit} > /sys/fs/cgroup/memory.max"
    program = sidecar([*mount_namespace, "sh", "-c", f'{mount} && exec "$@"', "sh", *PROGRAM])
    require_memory_is_limited(program, push, (limit - program.peak_memory) * 3 // 4)
    assert program.peak_memory < limit


def require_memory_is_limited(program: Sidecar, push: Push, limit: int) -> None:
    """Messages without end close all connections before memory grows far beyond the limit, and honest peers recover."""
    honest = push(program.zmq_port)
    honest.send(tracked(1))
    assert eventually(lambda: program.bought() == 1)
    before = program.peak_memory
    for _ in range(2):
        assert eventually(lambda: send_without_end(program.zmq_port) >= limit)
    assert program.peak_memory - before < 2 * limit
    assert "memory limit exceeded" in program.output

    def is_counted() -> bool:
        honest.send(tracked(2))
        return program.bought() == 2

    assert eventually(is_counted)
    assert program.is_up()


def send_without_end(port: int) -> int:
    """Send frames of 1 MiB that each announce another, until the connection is closed. Returns the bytes sent."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
    frame = b"\x03" + (2**20).to_bytes(8) + bytes(2**20)
    sent = 0
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready)
        while sent < 2**33:
            connection.sendall(frame)
            sent += len(frame)
    return sent


def test_totals_and_state_id_survive_a_restart(sidecar: Start, push: Push) -> None:
    program = sidecar()
    push(program.zmq_port).send(BUY)
    assert eventually(lambda: program.bought() == 1)
    state_id = json.loads(program.get("/sessions/a")[2])["state_id"]
    program.restart()
    assert program.bought() == 1
    assert json.loads(program.get("/sessions/a")[2])["state_id"] == state_id


def created(program: Sidecar) -> dict[str, float]:
    """The creation time of each counter and histogram. Fails if one has none."""
    text = program.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")[2]
    found: dict[str, float] = {}
    for family in openmetrics_families(text):  # type: ignore[no-untyped-call]
        if family.type in {"counter", "histogram"}:
            series = {sample.labels.get("symbol", "") for sample in family.samples}
            created_samples = [sample for sample in family.samples if sample.name == f"{family.name}_created"]
            assert {sample.labels.get("symbol", "") for sample in created_samples} == series, family.name
            found |= {
                f"{family.name} {sample.labels.get('symbol', '')}".strip(): sample.value for sample in created_samples
            }
    return found


def test_openmetrics_has_a_creation_time_for_each_counter(sidecar: Start, push: Push) -> None:
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
    restarted = time.time()
    program.restart()
    again = created(program)
    assert {name for name, at in again.items() if at != first[name]} == of_process
    assert min(again[name] for name in of_process) >= restarted


@pytest.mark.parametrize("accept", ["", "text/plain", "text/plain;version=0.0.4", "text/plain;version=1.0.0"])
def test_the_text_format_has_no_creation_times(idle: Sidecar, accept: str) -> None:
    status, _, text = idle.get("/metrics", Accept=accept)
    assert (status, "_created" in text) == (200, False)


def test_without_a_state_file_totals_start_from_zero(sidecar: Start, push: Push) -> None:
    program = sidecar(SIDECAR_STATE="")
    push(program.zmq_port).send(BUY)
    assert eventually(lambda: program.bought() == 1)
    program.restart()
    assert program.bought() == 0


def test_sessions_returns_the_committed_cursor(sidecar: Start, push: Push) -> None:
    program = sidecar()
    unknown = json.loads(program.get("/sessions/bot-1")[2])
    assert unknown == {"session": "bot-1", "next_seq": 1, "state_id": unknown["state_id"]}
    socket = push(program.zmq_port)
    for seq in (1, 2, 4, 2, 3):
        socket.send(tracked(seq))
    assert eventually(lambda: program.next_seq("bot-1") == 4)
    samples = program.samples()
    assert samples['trades_total{side="buy"}'] == 3
    assert samples["sidecar_trades_duplicate_total"] == 1
    assert samples["sidecar_trades_out_of_sequence_total"] == 1
    assert samples["sidecar_trades_tracked_total"] == 3
    assert samples["sidecar_sessions"] == 1
    assert program.get("/sessions/a%20b")[0] == 422


def test_a_kill_takes_back_no_total_that_was_shown(sidecar: Start, push: Push) -> None:
    program = sidecar()
    socket = push(program.zmq_port)
    for count in (1000, 2000):
        for seq in range(1, count + 1):
            socket.send(tracked(seq))
        shown = eventually(partial(bought_more_than, program, count - 1000))
        program.restart(signal.SIGKILL)
        kept = program.bought()
        assert kept >= shown
        assert program.next_seq("bot-1") == kept + 1
        for seq in range(1, count + 1):
            socket.send(tracked(seq))
        assert eventually(partial(bought_more_than, program, count - 1)) == count


def test_hot_reload_replaces_a_killed_process(sidecar: Start, push: Push) -> None:
    endpoint = f"tcp://0.0.0.0:{free_port()}"
    program = sidecar([*PROGRAM, "--reload"], SIDECAR_ZMQ_BIND=endpoint)
    push(int(endpoint.rsplit(":", 1)[1])).send(tracked(1))
    assert eventually(lambda: program.bought() == 1)
    (worker,) = re.findall(r"Started server process \[(\d+)\]", program.output)
    os.kill(int(worker), signal.SIGKILL)
    assert eventually(lambda: "was killed: starting a new one" in program.output)
    assert eventually(program.is_up)
    assert program.bought() == 1
    assert program.output.count("without SIDECAR_CURVE") == 1


def test_a_socket_open_to_everyone_is_logged_once(sidecar: Start) -> None:
    program = sidecar(SIDECAR_ZMQ_BIND=f"tcp://0.0.0.0:{free_port()}")
    assert program.output.count("without SIDECAR_CURVE") == 1


def test_receiving_stops_on_a_full_disk_and_resumes_when_there_is_room(
    sidecar: Start, push: Push, small_disk: Path
) -> None:
    program = sidecar(SIDECAR_STATE=str(small_disk / "state.sqlite3"))
    socket = push(program.zmq_port)
    socket.send(tracked(1))
    assert eventually(lambda: program.bought() == 1)
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    # Enough cursors to require space on the disk.
    for number in range(5000):
        socket.send(tracked(1, f"session-{number}"))
    assert eventually(lambda: program.get("/health")[0] == 503)
    assert "cannot commit: database or disk is full" in program.get("/health")[2]
    assert program.samples()["sidecar_commit_failures_total"] >= 1
    shown = program.bought()
    ballast.unlink()
    assert eventually(program.is_up)
    assert eventually(lambda: program.bought() == 5001)
    assert shown <= program.bought()
    assert program.samples()["sidecar_sessions"] == 5001
    program.restart(signal.SIGKILL)
    assert program.bought() == 5001


def test_symbols_over_the_limit_count_as_other(sidecar: Start, push: Push) -> None:
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


def test_trades_returns_the_most_recently_counted_trades(sidecar: Start, push: Push) -> None:
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


def test_receiving_stops_while_the_state_file_is_moved_away_or_replaced(
    sidecar: Start, push: Push, tmp_path: Path
) -> None:
    program = sidecar()
    path, away = Path(program.settings["SIDECAR_STATE"]), tmp_path / "away"
    socket = push(program.zmq_port)
    socket.send(tracked(1))
    assert eventually(lambda: program.bought() == 1)
    for count, replaced in (1, False), (3, True):
        path.rename(away)
        if replaced:
            path.write_bytes(away.read_bytes())
        status, _, body = program.get("/health")
        assert status == 503
        problem = f"the state file {path} was removed or replaced: put it back, or restart from zero"
        assert json.loads(body)["problems"] == [f"cannot commit: {problem}"]
        for seq in count + 1, count + 2:
            socket.send(tracked(seq))
        failures = program.samples()["sidecar_commit_failures_total"]
        assert eventually(partial(commits_failed_more_than, program, failures))
        assert (program.bought(), program.samples()["sidecar_messages_received_total"]) == (count, count)
        assert program.next_seq("bot-1") == count + 1
        assert program.get("/trades")[0] == 503
        away.replace(path)
        assert eventually(program.is_up)
        assert eventually(partial(bought_more_than, program, count + 1)) == count + 2
    program.restart(signal.SIGKILL)
    assert program.bought() == 5


def test_a_deleted_state_file_is_logged_and_a_restart_starts_from_zero(sidecar: Start, push: Push) -> None:
    program = sidecar()
    Path(program.settings["SIDECAR_STATE"]).unlink()
    push(program.zmq_port).send(tracked(1))
    assert eventually(lambda: "was removed or replaced: put it back, or restart" in program.output)
    assert program.bought() == 0
    program.restart()
    assert "Traceback" not in program.output


def bought_more_than(program: Sidecar, count: float) -> float:
    total = program.bought()
    return total if total > count else 0.0


def commits_failed_more_than(program: Sidecar, count: float) -> bool:
    return program.samples()["sidecar_commit_failures_total"] > count


MODES = pytest.mark.parametrize("arguments", [[], ["--reload"]], ids=["serve", "reload"])


@MODES
def test_an_invalid_setting_ends_the_process_with_one_line(tmp_path: Path, arguments: list[str]) -> None:
    ended = run(Sidecar(tmp_path, [*PROGRAM, *arguments], PORT="abc"))
    assert ended.returncode == 1
    assert ended.stderr == "metrics-sidecar: PORT=abc: not a port. Use a number from 1 to 65535\n"


@MODES
@pytest.mark.parametrize(
    "setting, line",
    [
        ("PORT=abc", "not a port. Use a number from 1 to 65535"),
        ("PORT=0", "not a port. Use a number from 1 to 65535"),
        ("PORT=65536", "not a port. Use a number from 1 to 65535"),
        ("PORT=8001.0", "not a port. Use a number from 1 to 65535"),
        ("HOST=192.0.2.1", "Cannot assign requested address. Use an address of this machine, such as 0.0.0.0"),
        (f"HOST={'ü' * 70}", "not an address. Use an address of this machine, such as 0.0.0.0"),
        ("HOST=", "not an address. Use an address of this machine, such as 0.0.0.0"),
        ("SIDECAR_ZMQ_BIND=tcp://nowhere", "not a ZeroMQ address. Use the form tcp://0.0.0.0:5555"),
        ("SIDECAR_ZMQ_BIND=tcp://0.0.0.0:99999", "not a ZeroMQ address. Use the form tcp://0.0.0.0:5555"),
        ("SIDECAR_ZMQ_BIND=tcp://0.0.0.0:0", "not a ZeroMQ address. Use the form tcp://0.0.0.0:5555"),
        ("SIDECAR_ZMQ_BIND=ipc://", "not a ZeroMQ address. Use the form tcp://0.0.0.0:5555"),
        (f"SIDECAR_ZMQ_BIND=ipc:///{'a' * 107}", "the path has 108 bytes, the limit is 107. Use a shorter path"),
        (
            "SIDECAR_ZMQ_BIND=tcp://192.0.2.1:5555",
            "Cannot assign requested address. Use an address of this machine, such as tcp://0.0.0.0:5555",
        ),
        (
            "SIDECAR_ALLOWED_HOSTS=http://a.example",
            "not a list of host names. Use the form host-1.example,telemetry.example",
        ),
        ("SIDECAR_SYMBOLS=many", "not a number of symbols. Use a number from 0 to 10000"),
        ("SIDECAR_SYMBOLS=-1", "not a number of symbols. Use a number from 0 to 10000"),
        ("SIDECAR_SYMBOLS=1e2", "not a number of symbols. Use a number from 0 to 10000"),
        ("SIDECAR_SYMBOLS=10001", "not a number of symbols. Use a number from 0 to 10000"),
        ("SIDECAR_SYMBOLS=", "not a number of symbols. Use a number from 0 to 10000"),
        (
            "SIDECAR_STATE=/proc/state.sqlite3",
            (
                "unable to open database file. "
                "Use a file that this user can write, or an empty value to keep totals in memory"
            ),
        ),
    ],
)
def test_an_unusable_setting_is_reported_in_one_line(
    exit_line: ExitLine, arguments: list[str], setting: str, line: str
) -> None:
    key, _, value = setting.partition("=")
    assert exit_line(arguments, **{key: value}) == f"metrics-sidecar: {setting}: {line}"


@MODES
def test_a_port_in_use_is_reported_in_one_line(exit_line: ExitLine, arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        port = server.getsockname()[1]
        http = {"HOST": "127.0.0.1", "PORT": str(port)}
        cause = "another program listens there. Stop it"
        assert exit_line(arguments, **http) == f"metrics-sidecar: PORT={port}: {cause}, or choose another port"
        endpoint = f"tcp://127.0.0.1:{port}"
        line = f"metrics-sidecar: SIDECAR_ZMQ_BIND={endpoint}: {cause} (another sidecar?), or choose another port"
        assert exit_line(arguments, SIDECAR_ZMQ_BIND=endpoint) == line


@MODES
def test_a_damaged_state_file_is_reported_in_one_line(
    exit_line: ExitLine, tmp_path: Path, arguments: list[str]
) -> None:
    path = tmp_path / "state.sqlite3"
    store = Store(path)
    ledger = store.load()
    ledger.apply([Trade("buy", 1.0, 100.0, "bot-1", 1)], 100.0)
    store.commit(ledger)
    store.close()
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"bot-1")] ^= 1
    path.write_bytes(damaged)
    cause = "damaged: the content does not match its checksum"
    remedy = "Restore it from a backup, or move it away to start from zero"
    assert exit_line(arguments) == f"metrics-sidecar: SIDECAR_STATE={path}: {cause}. {remedy}"


def test_two_sidecars_cannot_share_a_state_file(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with closing(Store(path)):
        ended = run(Sidecar(tmp_path, PROGRAM, SIDECAR_STATE=str(path)))
    assert ended.returncode == 1
    remedy = "Stop it, or give each sidecar a file of its own"
    assert ended.stderr == f"metrics-sidecar: SIDECAR_STATE={path}: another sidecar holds this file. {remedy}\n"
