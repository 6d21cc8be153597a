"""The receiver: everything that arrives is counted, nothing that arrives stops it."""

import logging
import time
from collections.abc import Callable, Iterator

import pytest
import zmq
from failing_store import FailingStore
from prometheus_client import CollectorRegistry
from sidecar_process import eventually

from metrics_sidecar.exposition import SidecarCollector
from metrics_sidecar.journal import Journal
from metrics_sidecar.messages import REASONS
from metrics_sidecar.receiver import Receiver
from metrics_sidecar.settings import SettingError
from metrics_sidecar.store import Store

BUY = b'{"type":"trade","side":"buy","qty":0.5,"ts":1790000000}'


@pytest.fixture
def journal() -> Journal:
    return Journal(Store(None))


@pytest.fixture
def receiver(journal: Journal) -> Iterator[Receiver]:
    receiver = Receiver("tcp://127.0.0.1:*", journal)
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def socket(receiver: Receiver, push: Callable[[int], zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    return push(int(receiver.endpoint.rsplit(":", 1)[1]))


def wait_for(received: int, receiver: Receiver, journal: Journal) -> None:
    deadline = time.monotonic() + 10
    while receiver.received < received and time.monotonic() < deadline:
        time.sleep(0.01)
    assert receiver.received == received
    journal.commit()


def test_trades_are_counted(receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes]) -> None:
    for _ in range(2500):
        socket.send(BUY)
    wait_for(2500, receiver, journal)
    assert journal.totals.trades == {"buy": 2500, "sell": 0}
    assert journal.totals.volume == {"buy": 1250.0, "sell": 0.0}


def test_what_breaks_the_contract_is_counted_and_the_next_trade_is_too(
    receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes]
) -> None:
    for rubbish in b"", b"\xff", b"[]", b"{}", b'{"type":"x"}', b"[" * 10_000, b"x" * 2**20:
        socket.send(rubbish)
    socket.send_multipart([BUY, BUY])
    socket.send(BUY.replace(b"0.5", b"-1"))
    socket.send(BUY)
    wait_for(10, receiver, journal)
    assert receiver.rejected == {
        **dict.fromkeys(REASONS, 1),
        "not_json": 2,
    }
    assert journal.totals.trades == {"buy": 1, "sell": 0}
    assert receiver.problem == ""


def tracked(seq: int, session: str = "a") -> bytes:
    return BUY.replace(b"}", b',"session":"%s","seq":%d}' % (session.encode(), seq))


def test_a_session_is_held_against_the_contract_whatever_came_before(
    receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes]
) -> None:
    socket.send_multipart([tracked(1), tracked(2)])
    for good in BUY, tracked(1), tracked(2), b'{"type":"gap_fill","session":"b","new_seq":3}', tracked(3, "b"):
        socket.send(good)
    for bad in (
        tracked(1, ""),
        tracked(1, "a b"),
        tracked(3).replace(b',"seq":3', b""),
        BUY.replace(b"}", b',"seq":1}'),
        tracked(3).replace(b'"type":"trade",', b""),
        tracked(3).replace(b'"a"', b'"\xe9"'),
        tracked(3).replace(b"}", b',"note":"\xe9"}'),
        tracked(3).ljust(65_537),
    ):
        socket.send(bad)
    socket.send_multipart([b"header", tracked(3)])
    wait_for(15, receiver, journal)
    assert {reason: count for reason, count in receiver.rejected.items() if count} == {
        "multipart": 2,
        "too_large": 1,
        "not_utf8": 2,
        "invalid_field": 2,
        "missing_field": 3,
    }
    assert journal.totals.trades["buy"] == 4
    assert journal.ledger.next_seq == {"a": 3, "b": 4}


def test_of_any_number_of_sessions_each_trade_is_counted(
    receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_sidecar.receiver._SESSIONS", 3)
    for seq in range(1, 51):
        for session in range(10):
            socket.send(tracked(seq, f"s{session}"))
    wait_for(500, receiver, journal)
    assert journal.totals.trades["buy"] == 500
    assert journal.ledger.next_seq == {f"s{session}": 51 for session in range(10)}


def test_frames_of_a_session_that_is_known_are_messages_each(
    receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes]
) -> None:
    socket.send(tracked(1))
    socket.send_multipart([tracked(2), tracked(3), b"rubbish"])
    wait_for(4, receiver, journal)
    assert journal.totals.trades["buy"] == 3
    assert receiver.rejected["not_json"] == 1


def test_rejections_are_logged_with_their_first_bytes_but_not_every_one(
    receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            socket.send(b"rubbish %d\n" % number + b"." * 1000)
        wait_for(1000, receiver, journal)
    assert "not_json" in caplog.messages[0]
    assert r"b'rubbish 0\n..." in caplog.messages[0]
    assert len(caplog.messages) < 20
    assert all(len(line) < 500 for line in caplog.messages)


def test_a_message_that_would_take_the_memory_costs_its_sender_the_connection(
    receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes]
) -> None:
    socket.send(b"x" * 2**25)
    socket.send(BUY)  # goes once ZeroMQ has connected again
    wait_for(1, receiver, journal)
    assert journal.totals.trades["buy"] == 1


def test_a_scrape_shows_what_has_arrived(journal: Journal, push: Callable[[int], zmq.Socket[bytes]]) -> None:
    receiver = Receiver("tcp://127.0.0.1:*", journal)  # its thread does not run
    registry = CollectorRegistry()
    registry.register(SidecarCollector(journal, receiver))
    push(int(receiver.endpoint.rsplit(":", 1)[1])).send(BUY)
    assert eventually(lambda: registry.get_sample_value("trades_total", {"side": "buy"}) == 1)
    receiver.stop()


def test_what_a_scrape_leaves_behind_is_taken_at_once(
    receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_sidecar.receiver._POLL_MS", 20_000)
    monkeypatch.setattr("metrics_sidecar.receiver._BATCH", 100)
    for burst in range(1, 51):
        for number in range(5000):
            socket.send(BUY)
            if number % 1000 == 0:
                receiver.catch_up()
        wait_for(5000 * burst, receiver, journal)


def test_what_arrived_before_a_stop_is_counted(receiver: Receiver, journal: Journal, socket: zmq.Socket[bytes]) -> None:
    socket.send(BUY)
    wait_for(1, receiver, journal)
    with journal.lock:  # the receiver waits for it, while more arrive
        for _ in range(100):
            socket.send(BUY)
        socket.close(linger=5000)
        receiver._stopping.set()
    receiver.stop()
    journal.commit()
    assert journal.totals.trades["buy"] == 101


def test_nothing_is_taken_while_nothing_can_be_committed(push: Callable[[int], zmq.Socket[bytes]]) -> None:
    store = FailingStore(None)
    store.full = True
    journal = Journal(store)
    receiver = Receiver("tcp://127.0.0.1:*", journal)
    receiver.start()
    socket = push(int(receiver.endpoint.rsplit(":", 1)[1]))
    socket.send(BUY)
    assert eventually(lambda: journal.problem)
    taken = receiver.received
    for _ in range(10):
        socket.send(BUY)
    time.sleep(0.3)  # a pause is all that can show that nothing comes
    assert receiver.received == taken
    store.full = False
    wait_for(11, receiver, journal)
    receiver.stop()


def test_a_receiver_that_does_not_run_says_so(journal: Journal) -> None:
    receiver = Receiver("tcp://127.0.0.1:*", journal)
    assert "not running" in receiver.problem
    receiver.start()
    assert receiver.problem == ""
    receiver.stop()
    assert "not running" in receiver.problem


def test_an_endpoint_that_another_holds_is_refused(receiver: Receiver) -> None:
    with pytest.raises(SettingError, match=f"SIDECAR_ZMQ_BIND={receiver.endpoint}: another program"):
        Receiver(receiver.endpoint, Journal(Store(None)))
