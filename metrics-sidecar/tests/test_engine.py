"""The engine: everything that arrives is counted, nothing that arrives stops it, and it shows what is committed."""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import zmq
from failing_store import FailingStore
from sidecar_process import eventually

from metrics_sidecar.engine import Engine
from metrics_sidecar.exposition import Snapshot
from metrics_sidecar.inlet import BindError
from metrics_sidecar.messages import REASONS
from metrics_sidecar.questions import NoAnswer
from metrics_sidecar.store import Store

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
    """The snapshot once so many messages were received."""
    assert eventually(lambda: ask(engine, engine.snapshot).received >= received)
    snapshot = ask(engine, engine.snapshot)
    assert snapshot.received == received
    return snapshot


def rejected(snapshot: Snapshot) -> dict[str, int]:
    return {reason: count for reason, count in snapshot.rejected.items() if count}


def test_trades_are_counted(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    for _ in range(2500):
        socket.send(BUY)
    socket.send(b"\n".join([BUY] * 5000))
    totals = after(7500, engine).totals
    assert totals.series["buy", ""][1:] == (7500, 3750.0, 0.0)
    assert totals.series["sell", ""][1:] == (0, 0.0, 0.0)
    assert totals.tracked == 0


def test_what_breaks_the_contract_is_counted_and_the_next_trade_is_too(
    engine: Engine, socket: zmq.Socket[bytes]
) -> None:
    for rubbish in b"\xff", b"[]", b"{}", b'{"type":"x"}', b"[" * 10_000, b"x" * (2**20 + 1):
        socket.send(rubbish)
    socket.send(BUY.replace(b"0.5", b"-1"))
    socket.send(BUY)
    snapshot = after(8, engine)
    assert snapshot.rejected == dict.fromkeys(REASONS, 1)
    assert snapshot.totals.series["buy", ""].trades == 1
    assert ask(engine, engine.problem) is None


def test_each_frame_of_a_message_stands_for_itself(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    socket.send_multipart([tracked(1), b"header", b"", tracked(2) + b"\n" + tracked(3), tracked(4)[:20]])
    socket.send_multipart([tracked(4)[20:], tracked(4)])
    snapshot = after(7, engine)
    assert snapshot.totals.series["buy", ""].trades == 4
    assert rejected(snapshot) == {"not_json": 3}


def test_a_blank_frame_holds_no_message(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    for frame in b"", b" \r\n", BUY:
        socket.send(frame)
    assert after(1, engine).totals.series["buy", ""].trades == 1


def test_of_any_number_of_sessions_each_trade_is_counted_once(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    for seq in range(1, 51):
        for session in range(10):
            socket.send(tracked(seq, f"s{session}"))
            socket.send(tracked(seq, f"s{session}"))
    snapshot = after(1000, engine)
    assert (snapshot.totals.series["buy", ""].trades, snapshot.duplicates, snapshot.sessions) == (500, 500, 10)
    assert ask(engine, lambda: engine.cursor("s3")).next_seq == 51


def test_a_sender_that_floods_keeps_no_other_from_being_counted(
    engine: Engine, socket: zmq.Socket[bytes], push: Push
) -> None:
    flood = b"\n".join([BUY] * 5000)
    socket.set(zmq.SNDTIMEO, 100)
    ends = threading.Event()

    def send() -> None:
        while not ends.is_set():
            with suppress(zmq.Again):
                socket.send(flood)

    flooding = threading.Thread(target=send)
    flooding.start()
    try:
        quiet = push(port(engine))
        for seq in range(1, 11):
            quiet.send(tracked(seq))
            assert eventually(lambda: ask(engine, lambda: engine.cursor("a")).next_seq == seq + 1)  # noqa: B023
    finally:
        ends.set()
        flooding.join()
    assert ask(engine, engine.snapshot).received > 5000


def test_an_invalid_trade_in_sequence_is_lost_and_does_not_hold_up_the_next(
    engine: Engine, socket: zmq.Socket[bytes]
) -> None:
    socket.send(tracked(1) + b"\n" + tracked(2).replace(b"0.5", b"NaN") + b"\n" + tracked(3))
    totals = after(3, engine).totals
    assert (totals.series["buy", ""].trades, totals.lost, totals.tracked) == (2, 1, 2)
    assert ask(engine, lambda: engine.cursor("a")).next_seq == 4


def test_rejections_are_logged_with_their_first_bytes_but_not_every_one(
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


def test_losses_are_logged_with_their_session_but_not_every_one(
    engine: Engine, socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for new_seq in range(2, 1002):
            socket.send(b'{"type":"gap_fill","session":"a","new_seq":%d}' % new_seq)
        assert after(1000, engine).totals.lost == 1000
    assert caplog.messages[0].startswith("session a: trades before seq 2 ")
    assert len(caplog.messages) < 20


def test_a_frame_that_would_take_the_memory_costs_its_sender_the_connection(
    engine: Engine, socket: zmq.Socket[bytes]
) -> None:
    socket.send(b"x" * (2 * 2**20 + 1))

    def is_counted() -> bool:
        socket.send(tracked(1))  # what was on its way with the frame is gone with the connection
        return ask(engine, engine.snapshot).totals.series["buy", ""].trades == 1

    assert eventually(is_counted)
    assert ask(engine, engine.snapshot).rejected["too_large"] == 0


def test_a_snapshot_shows_what_has_arrived(push: Push) -> None:
    engine = Engine("tcp://127.0.0.1:*", Store(None))  # its thread does not run
    push(port(engine)).send(BUY)
    assert eventually(lambda: engine.snapshot().totals.series["buy", ""].trades == 1)
    engine.start()
    engine.stop()


def test_what_a_snapshot_leaves_behind_is_taken_at_once(
    engine: Engine, socket: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_sidecar.engine._POLL_SECONDS", 20.0)
    monkeypatch.setattr("metrics_sidecar.inlet._BATCH_FRAMES", 100)
    for burst in range(1, 21):
        for number in range(5000):
            socket.send(BUY)
            if number % 1000 == 0:
                ask(engine, engine.snapshot)
        after(5000 * burst, engine)


def test_what_is_not_committed_is_not_shown(engine: Engine, store: FailingStore, socket: zmq.Socket[bytes]) -> None:
    store.full = True
    socket.send(tracked(1))
    assert eventually(lambda: ask(engine, engine.problem) == "cannot commit: database or disk is full")
    snapshot = ask(engine, engine.snapshot)
    assert (snapshot.received, snapshot.totals.series["buy", ""].trades) == (1, 0)
    assert ask(engine, lambda: engine.cursor("a")).next_seq == 1
    store.full = False
    assert after(1, engine).totals.series["buy", ""].trades == 1
    assert ask(engine, lambda: engine.cursor("a")).next_seq == 2
    assert ask(engine, engine.problem) is None


def test_nothing_is_taken_while_nothing_can_be_committed(
    engine: Engine, store: FailingStore, socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store.full = True
    socket.send(BUY)
    assert eventually(lambda: ask(engine, engine.problem))
    taken = ask(engine, engine.snapshot).received
    for _ in range(10):
        socket.send(BUY)
    failures = ask(engine, engine.snapshot).commit_failures
    assert eventually(lambda: ask(engine, engine.snapshot).commit_failures >= failures + 10)
    assert ask(engine, engine.snapshot).received == taken
    assert len([line for line in caplog.messages if "cannot commit" in line]) == 1
    store.full = False
    assert after(11, engine).totals.series["buy", ""].trades == 11


def test_commits_are_not_more_frequent_than_needed(engine: Engine, socket: zmq.Socket[bytes]) -> None:
    ask(engine, engine.snapshot)
    started = time.monotonic()
    for seq in range(1, 2001):
        socket.send(tracked(seq))
        time.sleep(0.0001)
    assert eventually(lambda: ask(engine, lambda: engine.cursor("a")).next_seq == 2001)
    (*_, (_, commits)) = ask(engine, engine.snapshot).commit_seconds.buckets()
    assert 1 <= commits <= (time.monotonic() - started) / 0.05 + 2


def test_while_the_disk_hangs_there_is_no_answer_and_the_event_loop_goes_on(
    engine: Engine, store: FailingStore, socket: zmq.Socket[bytes]
) -> None:
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
        with pytest.raises(NoAnswer, match="the engine has not answered for 1 s"):
            await engine.ask(engine.snapshot)
        ticking.cancel()
        return ticks

    started = time.monotonic()
    assert asyncio.run(ask_and_tick()) > 20
    assert time.monotonic() - started < 1.5
    store.answers.set()
    assert after(1, engine).totals.series["buy", ""].trades == 1


@pytest.mark.parametrize(
    "frames, received",
    [
        ([b"{}\n" * (2**20 // 3)] * 2, 2 * (2**20 // 3)),
        ([b"\n" * (2**20 - 1) + b"x"], 1),
        ([b"[" * 2**20] * 8, 8),
        ([(BUY + b"\n") * (2**20 // len(BUY + b"\n"))] * 4, 4 * (2**20 // len(BUY + b"\n"))),
        ([b""] * 300_000 + [BUY], 1),
        ([b"x"] * 100_000, 100_000),
    ],
    ids=["objects in lines", "blank lines", "brackets", "trades", "empty frames", "frames of a byte"],
)
def test_questions_are_answered_whatever_arrives(
    engine: Engine, socket: zmq.Socket[bytes], frames: list[bytes], received: int
) -> None:
    async def longest_wait() -> float:
        longest = 0.0
        while True:
            started = time.monotonic()
            await engine.ask(engine.problem)
            longest = max(longest, time.monotonic() - started)
            if (await engine.ask(engine.snapshot)).received == received:
                return longest
            await asyncio.sleep(0.005)

    # All are one message.
    threading.Thread(target=socket.send_multipart, args=[frames]).start()
    # In a quiet process a tenth of it; here the sender and others share the processor.
    assert asyncio.run(longest_wait()) < 0.5


def test_what_arrived_before_a_stop_is_counted(tmp_path_factory: pytest.TempPathFactory, push: Push) -> None:
    path = tmp_path_factory.mktemp("state") / "state.sqlite3"
    engine = Engine("tcp://127.0.0.1:*", Store(path))
    socket = push(port(engine))
    socket.send(BUY)
    assert eventually(lambda: engine.snapshot().received == 1)  # its thread does not run
    for _ in range(100):
        socket.send(BUY)
    engine.start()
    engine.stop()
    assert Store(path).load().totals().series["buy", ""].trades == 101


def test_a_stop_that_cannot_commit_says_so(
    engine: Engine, store: FailingStore, socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store.full = True
    socket.send(BUY)
    assert eventually(lambda: ask(engine, engine.problem))
    engine.stop()
    assert "dropping trades received since the last commit" in caplog.messages[-1]


def test_an_engine_that_does_not_run_says_so(store: FailingStore) -> None:
    engine = Engine("tcp://127.0.0.1:*", store)
    with pytest.raises(NoAnswer, match="not running"):
        ask(engine, engine.problem)
    engine.start()
    assert ask(engine, engine.problem) is None
    engine.stop()
    with pytest.raises(NoAnswer, match="not running"):
        ask(engine, engine.problem)


def test_an_endpoint_that_another_holds_is_refused(engine: Engine) -> None:
    with pytest.raises(BindError, match="another program listens there") as error:
        Engine(engine.endpoint, Store(None))
    assert error.value.remedy.startswith("Stop it")


def test_the_socket_is_free_after_a_stop(store: FailingStore) -> None:
    engine = Engine("tcp://127.0.0.1:*", store)
    for _ in itertools.repeat(None, 3):
        engine.start()
        engine.stop()
        engine = Engine(engine.endpoint, Store(None))
    engine.start()
    engine.stop()
