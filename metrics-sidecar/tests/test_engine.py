"""The engine: it counts whatever arrives, no input stops it, and it reports committed totals only."""

import asyncio
import itertools
import logging
import socket as stdlib_socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from failing_store import FailingStore
from sidecar_process import eventually

from metrics_sidecar.engine import Engine
from metrics_sidecar.exposition import Snapshot
from metrics_sidecar.inlet import BindError, Inlet
from metrics_sidecar.messages import REASONS
from metrics_sidecar.questions import NoAnswer
from metrics_sidecar.store import Store
from metrics_sidecar.store_error import StoreError

BUY = b'{"type":"trade","side":"buy","qty":0.5,"ts":1790000000}'

type Push = Callable[[int], zmq.Socket[bytes]]


def tracked(seq: int, session: str = "a") -> bytes:
    return BUY.replace(b"}", b',"session":"%s","seq":%d}' % (session.encode(), seq))


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
def engine(store: FailingStore) -> Iterator[Engine]:
    engine = Engine("tcp://127.0.0.1:*", store)
    engine.start()
    yield engine
    store.answers.set()
    engine.stop()


@pytest.fixture
def socket(engine: Engine, push: Push) -> zmq.Socket[bytes]:
    return push(port(engine))


def port(engine: Engine) -> int:
    return int(engine.endpoint.rsplit(":", 1)[1])


def ask[Answer](engine: Engine, question: Callable[[], Answer]) -> Answer:
    return asyncio.run(engine.ask(question))


def after(received: int, engine: Engine) -> Snapshot:
    """Wait until exactly ``received`` messages were received. Returns the snapshot."""
    assert eventually(lambda: ask(engine, engine.snapshot).received >= received)
    snapshot = ask(engine, engine.snapshot)
    assert snapshot.received == received
    return snapshot


def rejected(snapshot: Snapshot) -> dict[str, int]:
    return {reason: count for reason, count in snapshot.rejected.items() if count}


def test_single_and_batched_trades_count(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    for _ in range(2500):
        socket.send(BUY)
    socket.send(b"\n".join([BUY] * 5000))
    totals = after(7500, engine).totals
    assert totals.series["buy", ""][1:] == (7500, 3750.0, 0.0)
    assert totals.series["sell", ""][1:] == (0, 0.0, 0.0)
    assert totals.tracked == 0


def test_a_rejected_message_is_counted_by_reason_and_the_next_trade_counts(
    engine: Engine, socket: zmq.Socket[bytes]
) -> None:
    for rubbish in b"\xff", b"[]", b"{}", b'{"type":"x"}', b"[" * 10_000, b"x" * (2**20 + 1):
        socket.send(rubbish)
    socket.send(BUY.replace(b"0.5", b"-1"))
    socket.send(BUY)
    snapshot = after(8, engine)
    assert snapshot.rejected == dict.fromkeys(REASONS, 1)
    assert snapshot.totals.series["buy", ""].trades == 1
    assert ask(engine, engine.check_health) is None


def test_the_frames_of_a_message_are_decoded_independently(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    socket.send_multipart([tracked(1), b"header", b"", tracked(2) + b"\n" + tracked(3), tracked(4)[:20]])
    socket.send_multipart([tracked(4)[20:], tracked(4)])
    snapshot = after(7, engine)
    assert snapshot.totals.series["buy", ""].trades == 4
    assert rejected(snapshot) == {"not_json": 3}


def test_a_blank_frame_contains_no_message(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    for frame in b"", b" \r\n", BUY:
        socket.send(frame)
    assert after(1, engine).totals.series["buy", ""].trades == 1


def test_sessions_are_tracked_independently(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    for seq in range(1, 51):
        for session in range(10):
            socket.send(tracked(seq, f"s{session}"))
            socket.send(tracked(seq, f"s{session}"))
    snapshot = after(1000, engine)
    assert (snapshot.totals.series["buy", ""].trades, snapshot.duplicates, snapshot.sessions) == (500, 500, 10)
    assert ask(engine, lambda: engine.cursor("s3")).next_seq == 51


def test_a_flooding_sender_does_not_block_the_others(engine: Engine, socket: zmq.Socket[bytes], push: Push) -> None:
    flood = b"\n".join([BUY] * 5000)
    socket.set(zmq.SNDTIMEO, 100)
    ended = threading.Event()

    def send() -> None:
        while not ended.is_set():
            with suppress(zmq.Again):
                socket.send(flood)

    flooding = threading.Thread(target=send)
    flooding.start()
    try:
        quiet = push(port(engine))
        for seq in range(1, 4):
            quiet.send(tracked(seq))
            assert eventually(lambda: ask(engine, lambda: engine.cursor("a")).next_seq == seq + 1)  # noqa: B023
    finally:
        ended.set()
        flooding.join()
    assert ask(engine, engine.snapshot).received > 5000


def test_an_invalid_trade_next_in_sequence_counts_as_lost_and_the_next_counts(
    engine: Engine, socket: zmq.Socket[bytes]
) -> None:
    socket.send(tracked(1) + b"\n" + tracked(2).replace(b"0.5", b"NaN") + b"\n" + tracked(3))
    totals = after(3, engine).totals
    assert (totals.series["buy", ""].trades, totals.lost, totals.tracked) == (2, 1, 2)
    assert ask(engine, lambda: engine.cursor("a")).next_seq == 4


def test_rejections_are_logged_with_their_first_bytes_at_a_limited_rate(
    engine: Engine, socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            socket.send(b"\x1b[31mrubbish %d" % number + b"." * 1000)
        socket.send(BUY.replace(b"buy", b"\\u001b\\n" + b"x" * 10_000))
        after(1001, engine)
    assert "not_json" in caplog.messages[0]
    assert r"b'\x1b[31mrubbish 0..." in caplog.messages[0]
    assert len(caplog.messages) < 20
    assert all(line.isprintable() and len(line) < 1000 for line in caplog.messages)


def test_losses_are_logged_with_their_session_at_a_limited_rate(
    engine: Engine, socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for new_seq in range(2, 1002):
            socket.send(b'{"type":"gap_fill","session":"a","new_seq":%d}' % new_seq)
        assert after(1000, engine).totals.lost == 1000
    assert caplog.messages[0].startswith("session a: trades before seq 2 ")
    assert len(caplog.messages) < 20


def test_a_frame_over_2_mib_closes_the_connection_of_its_sender(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    socket.send(b"x" * (2 * 2**20 + 1))

    def is_counted() -> bool:
        socket.send(tracked(1))  # Trades queued behind the frame are lost with the connection.
        return ask(engine, engine.snapshot).totals.series["buy", ""].trades == 1

    assert eventually(is_counted)
    assert ask(engine, engine.snapshot).rejected["too_large"] == 0


def test_a_snapshot_includes_what_has_just_arrived(push: Push) -> None:
    engine = Engine("tcp://127.0.0.1:*", Store(None))  # The thread is not running.
    push(port(engine)).send(BUY)
    assert eventually(lambda: engine.snapshot().totals.series["buy", ""].trades == 1)
    engine.start()
    engine.stop()


def test_trades_left_over_by_a_snapshot_are_counted_without_delay(
    engine: Engine, socket: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_sidecar.engine.POLL_SECONDS", 20.0)
    monkeypatch.setattr("metrics_sidecar.inlet.BATCH_FRAMES", 100)
    for burst in range(1, 21):
        for number in range(5000):
            socket.send(BUY)
            if number % 1000 == 0:
                ask(engine, engine.snapshot)
        after(5000 * burst, engine)


def test_uncommitted_trades_are_not_reported(engine: Engine, store: FailingStore, socket: zmq.Socket[bytes]) -> None:
    store.full = True
    socket.send(tracked(1))
    assert eventually(lambda: ask(engine, engine.check_health) == "cannot commit: database or disk is full")
    snapshot = ask(engine, engine.snapshot)
    assert (snapshot.received, snapshot.totals.series["buy", ""].trades) == (1, 0)
    assert ask(engine, lambda: engine.cursor("a")).next_seq == 1
    store.full = False
    assert after(1, engine).totals.series["buy", ""].trades == 1
    assert ask(engine, lambda: engine.cursor("a")).next_seq == 2
    assert ask(engine, engine.check_health) is None


def test_receiving_stops_while_commits_fail(
    engine: Engine, store: FailingStore, socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store.full = True
    socket.send(BUY)
    assert eventually(lambda: ask(engine, engine.check_health))
    received = ask(engine, engine.snapshot).received
    for _ in range(10):
        socket.send(BUY)
    failures = ask(engine, engine.snapshot).commit_failures
    assert eventually(lambda: ask(engine, engine.snapshot).commit_failures >= failures + 10)
    assert ask(engine, engine.snapshot).received == received
    assert len([line for line in caplog.messages if "cannot commit" in line]) == 1
    store.full = False
    assert after(11, engine).totals.series["buy", ""].trades == 11


def test_commits_happen_at_most_every_50_ms(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    ask(engine, engine.snapshot)
    started = time.monotonic()
    seq = 0
    while time.monotonic() < started + 0.3:
        seq += 1
        socket.send(tracked(seq))
    assert eventually(lambda: ask(engine, lambda: engine.cursor("a")).next_seq == seq + 1)
    (*_, (_, commits)) = ask(engine, engine.snapshot).commit_seconds.buckets()
    assert 2 <= commits <= (time.monotonic() - started) / 0.05 + 2


def test_questions_time_out_while_the_disk_hangs_and_the_event_loop_keeps_running(
    engine: Engine, store: FailingStore, socket: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_sidecar.questions.ANSWER_SECONDS", 0.5)
    store.answers.clear()
    socket.send(BUY)
    assert store.hangs.wait(20)

    async def ask_and_tick() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        with pytest.raises(NoAnswer, match=r"^the engine has not answered for 0\.5 s$"):
            await engine.ask(engine.snapshot)
        ticking.cancel()
        return ticks

    started = time.monotonic()
    assert asyncio.run(ask_and_tick()) > 10
    assert time.monotonic() - started < 1.0
    store.answers.set()
    assert after(1, engine).totals.series["buy", ""].trades == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "frames, received",
    [
        pytest.param([b"{}\n" * (2**20 // 3)], 2**20 // 3, id="objects in lines", marks=pytest.mark.long),
        pytest.param([b"\n" * (2**20 - 1) + b"x"], 1, id="blank lines"),
        pytest.param([b"[" * 2**20] * 8, 8, id="brackets"),
        pytest.param([(BUY + b"\n") * 18_000] * 4, 72_000, id="trades"),
        pytest.param([b""] * 300_000 + [BUY], 1, id="empty frames"),
        pytest.param([b"x"] * 100_000, 100_000, id="frames of one byte"),
    ],
)
def test_questions_are_answered_promptly_whatever_arrives(
    engine: Engine, socket: zmq.Socket[bytes], frames: list[bytes], received: int
) -> None:
    async def longest_wait() -> float:
        """The most processor time that the engine thread spent between a question and its answer."""
        longest = 0.0
        clock = time.pthread_getcpuclockid(await engine.ask(threading.get_ident))
        while True:
            asked = time.clock_gettime(clock)
            longest = max(longest, await engine.ask(time.thread_time) - asked)
            if (await engine.ask(engine.snapshot)).received == received:
                return longest
            await asyncio.sleep(0.005)

    # All frames are one message.
    threading.Thread(target=socket.send_multipart, args=[frames]).start()
    assert asyncio.run(longest_wait()) < 0.25


def test_trades_that_arrived_before_a_stop_count(tmp_path: Path, push: Push) -> None:
    path = tmp_path / "state.sqlite3"
    engine = Engine("tcp://127.0.0.1:*", Store(path))
    socket = push(port(engine))
    socket.send(BUY)
    assert eventually(lambda: engine.snapshot().received == 1)  # The thread is not running.
    for _ in range(100):
        socket.send(BUY)
    engine.start()
    engine.stop()
    assert Store(path).load().totals().series["buy", ""].trades == 101


def test_a_stop_releases_the_state_file_even_if_the_socket_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Inlet.close

    def close_and_fail(inlet: Inlet) -> None:
        close(inlet)
        raise OSError

    monkeypatch.setattr(Inlet, "close", close_and_fail)
    path = tmp_path / "state.sqlite3"
    engine = Engine("tcp://127.0.0.1:*", Store(path))
    failed = threading.Event()
    engine.on_failure = failed.set
    engine.start()
    engine.stop()
    assert failed.is_set()
    Store(path).close()


def test_a_stop_that_cannot_commit_logs_the_loss(
    engine: Engine, store: FailingStore, socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store.full = True
    socket.send(BUY)
    assert eventually(lambda: ask(engine, engine.check_health))
    engine.stop()
    problem = "cannot commit: database or disk is full"
    loss = "dropping trades received since the last commit; publishers resend tracked ones"
    assert caplog.messages[-1] == f"{problem}; {loss}"


def test_a_stop_gives_up_while_the_disk_hangs(
    store: FailingStore, push: Push, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("metrics_sidecar.engine.STOP_SECONDS", 0.1)
    engine = Engine("tcp://127.0.0.1:*", store)
    engine.start()
    store.answers.clear()
    push(port(engine)).send(BUY)
    assert store.hangs.wait(20)
    engine.stop()
    assert caplog.messages[-1].startswith("the engine did not stop in time")
    monkeypatch.undo()
    store.answers.set()
    engine.stop()


def test_the_last_trades_are_committed_ones(engine: Engine, store: FailingStore, socket: zmq.Socket[bytes]) -> None:
    store.full = True
    socket.send(tracked(1))
    assert eventually(lambda: ask(engine, engine.check_health))
    with pytest.raises(StoreError, match=r"^cannot commit: database or disk is full$"):
        ask(engine, lambda: engine.last_trades(1))
    store.full = False
    assert eventually(lambda: not ask(engine, engine.check_health))
    assert [trade.seq for trade in ask(engine, lambda: engine.last_trades(1))] == [1]


def test_a_question_to_an_engine_that_is_not_running_fails(store: FailingStore) -> None:
    engine = Engine("tcp://127.0.0.1:*", store)
    with pytest.raises(NoAnswer, match=r"^the engine is not running$"):
        ask(engine, engine.check_health)
    engine.start()
    assert ask(engine, engine.check_health) is None
    engine.stop()
    with pytest.raises(NoAnswer, match=r"^the engine is not running$"):
        ask(engine, engine.check_health)


def test_an_endpoint_in_use_is_refused(engine: Engine) -> None:
    with pytest.raises(BindError, match=r"^another program listens there$") as error:
        Engine(engine.endpoint, Store(None))
    assert error.value.remedy.startswith("Stop it")


def test_connections_are_closed_only_once_for_memory_that_is_not_in_their_queues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, theirs = stdlib_socket.socketpair()
    with ours, theirs:
        inlet = Inlet("tcp://127.0.0.1:*", ours, memory_limit=2**20)
        ballast = b"x" * 2**25
        checks = 0

        def is_checked_often() -> bool:
            nonlocal checks
            inlet.relieve()
            checks += 1
            return checks == 10

        assert eventually(is_checked_often)
        assert ballast
        inlet.close()
    assert caplog.messages == ["memory limit exceeded: closing all connections; publishers resend tracked trades"]


def test_a_stop_releases_the_endpoint(store: FailingStore) -> None:
    engine = Engine("tcp://127.0.0.1:*", store)
    for _ in itertools.repeat(None, 3):
        engine.start()
        engine.stop()
        engine = Engine(engine.endpoint, Store(None))
    engine.start()
    engine.stop()


def test_a_blank_frame_does_not_keep_an_earlier_trade_from_being_committed(
    tmp_path: Path, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_sidecar.commits._INTERVAL", 3600.0)
    monkeypatch.setattr("metrics_sidecar.inlet.BATCH_FRAMES", 16)
    path = tmp_path / "state.sqlite3"
    engine = Engine("tcp://127.0.0.1:*", Store(path))
    socket = push(port(engine))
    socket.send(BUY)
    assert eventually(lambda: engine.snapshot().received == 1)  # The thread does not run. This commits.
    socket.send_multipart([b""] * 15 + [BUY] + [b""] * 16)  # Two batches.
    engine.start()
    engine.stop()
    assert Store(path).load().totals().series["buy", ""].trades == 2


def test_the_last_trades_include_what_has_just_arrived_and_are_committed(push: Push) -> None:
    engine = Engine("tcp://127.0.0.1:*", Store(None))
    push(port(engine)).send(tracked(1))
    assert eventually(lambda: engine.last_trades(1))  # The thread does not run.
    assert engine.cursor("a").next_seq == 2
    engine.start()
    engine.stop()
