"""`TradePublisher`: it never waits for the sidecar, and sends each trade until it is committed."""

import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from app_process import FakeSidecar, eventually

from trading_app.outbox_error import OutboxError, OutboxInUse
from trading_app.publisher import TradePublisher


def publisher_to(sidecar: FakeSidecar, outbox: Path | None = None, capacity: int = 1_000_000) -> TradePublisher:
    return TradePublisher(sidecar.address, sidecar_url=sidecar.url, outbox=outbox, capacity=capacity)


def test_a_trade_arrives_as_published(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        before = time.time()
        trade = publisher.publish("buy", qty=2.5)
        assert sidecar.receive() == msgspec.to_builtins(trade)
    assert (trade.side, trade.qty, trade.seq) == ("buy", 2.5, 1)
    assert before <= trade.ts <= time.time()


def test_the_quantity_is_1_unless_given(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        assert publisher.publish("sell").qty == 1.0


def test_subclasses_of_str_and_other_number_types_are_accepted(sidecar: FakeSidecar) -> None:
    class Word(str):
        """A subclass of str, like the strings of a data frame."""

    with publisher_to(sidecar) as publisher:
        publisher.publish(Word("sell"), 2)  # type: ignore[arg-type]
        message = sidecar.receive()
    assert (message["side"], message["qty"]) == ("sell", 2.0)


def test_a_trade_is_pending_until_it_is_committed(sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    with publisher_to(sidecar) as publisher:
        trade = publisher.publish("buy")
        sidecar.receive()
        assert not publisher.flush(timeout=0.2)
        assert (publisher.pending, publisher.status(trade)) == (1, "waiting")
        sidecar.next_seq[trade.session] = 2
        assert publisher.flush()
        assert (publisher.pending, publisher.status(trade)) == (0, "delivered")


def test_trades_published_before_the_sidecar_starts_arrive_in_order(absent: FakeSidecar) -> None:
    with publisher_to(absent) as publisher:
        for qty in range(1, 2001):
            publisher.publish("buy", qty)
        assert publisher.pending == 2000
        assert not publisher.flush(timeout=0)
        absent.open()
        assert publisher.flush(20)
    assert [trade["qty"] for trade in absent.receive_distinct()] == list(range(1, 2001))


def test_uncommitted_trades_are_sent_again(sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    with publisher_to(sidecar) as publisher:
        for _ in range(3):
            publisher.publish("buy")
        assert [sidecar.receive()["seq"] for _ in range(3)] == [1, 2, 3]
        sidecar.commits = True  # It lost the trades that it had received.
        assert publisher.flush()
    assert [trade["seq"] for trade in sidecar.receive_distinct()] == [1, 2, 3]


# An interrupt may arrive during a callback of the garbage collector, which cannot raise it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("capacity", [1_000_000, 10], ids=["room for all", "full journal"])
def test_a_publisher_survives_an_interrupt_at_any_point(sidecar: FakeSidecar, capacity: int) -> None:
    published, interrupts = [], 0
    # Without commits, the small journal is always full.
    sidecar.commits = capacity > 10
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with publisher_to(sidecar, capacity=capacity) as publisher:
            for number in range(300):
                # An interrupt may arrive in code of ZeroMQ, which swallows it.
                deadline = time.monotonic() + 0.05
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-4 + number * 1e-6)
                    while time.monotonic() < deadline:
                        published.append(publisher.publish("buy"))
                except KeyboardInterrupt:
                    interrupts += 1
            sidecar.commits = True
            with ThreadPoolExecutor() as pool:
                published.append(pool.submit(publisher.publish, "sell").result(10))
            assert publisher.flush(20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    numbers = [trade.seq for trade in published]
    assert interrupts > 100
    assert len(set(numbers)) == len(numbers)
    assert sidecar.next_seq == {published[-1].session: numbers[-1] + 1}


def test_a_publisher_reconnects_to_a_restarted_sidecar(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        publisher.publish("buy", 1)
        assert publisher.flush()
        sidecar.close()
        publisher.publish("buy", 2)
        publisher.publish("buy", 3)
        assert not publisher.flush(timeout=0.3)
        sidecar.open()
        assert publisher.flush(20)
    assert {trade["qty"] for trade in sidecar.receive_all()} == {1, 2, 3}


def test_a_sidecar_that_lost_its_cursors_gets_a_gap_fill(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        for _ in range(5):
            publisher.publish("buy")
        assert publisher.flush()
        sidecar.receive_all()
        sidecar.next_seq.clear()
        trade = publisher.publish("buy")
        assert publisher.flush(20)
    received = sidecar.receive_all()
    assert {"type": "gap_fill", "session": trade.session, "new_seq": 6} in received
    assert received[-1]["seq"] == 6


def test_all_trades_of_many_threads_arrive(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        threads = [threading.Thread(target=lambda: [publisher.publish("buy") for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert publisher.flush(20)
    assert [trade["seq"] for trade in sidecar.receive_distinct()] == list(range(1, 4001))


def test_a_full_journal_drops_the_oldest_trades_and_counts_them(absent: FakeSidecar) -> None:
    with publisher_to(absent, capacity=10) as publisher:
        trades = [publisher.publish("buy") for _ in range(15)]
        assert (publisher.pending, publisher.lost) == (10, 5)
        assert [publisher.status(trade) for trade in trades[4:6]] == ["lost", "waiting"]
        absent.open()
        assert publisher.flush(20)
    gap_fill, *others = absent.receive_distinct()
    assert (gap_fill["type"], gap_fill["new_seq"]) == ("gap_fill", 6)
    assert [message["seq"] for message in others] == list(range(6, 16))


def test_an_invalid_trade_is_not_sent(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        with pytest.raises(ValueError, match=r"^the quantity must be above 0"):
            publisher.publish("buy", 0)
        publisher.publish("buy", 7)
        assert sidecar.receive()["qty"] == 7


def test_the_next_publisher_sends_the_trades_in_the_outbox(absent: FakeSidecar, tmp_path: Path) -> None:
    first = publisher_to(absent, tmp_path / "bot")
    first.publish("buy", 1)
    with pytest.raises(OutboxInUse):
        publisher_to(absent, tmp_path / "bot")
    first.close(timeout=0)
    absent.open()
    with publisher_to(absent, tmp_path / "bot") as second:
        second.publish("buy", 2)
        assert second.flush(20)
    assert {trade["qty"] for trade in absent.receive_all()} == {1, 2}


def test_close_waits_up_to_its_timeout(absent: FakeSidecar) -> None:
    publisher = publisher_to(absent)
    publisher.publish("buy")
    began = time.monotonic()
    publisher.close(timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 2.0
    publisher.close()
    with pytest.raises(RuntimeError, match=r"^the publisher is closed$"):
        publisher.publish("buy")


def test_close_sends_pending_trades(absent: FakeSidecar) -> None:
    publisher = publisher_to(absent)
    publisher.publish("buy")
    absent.open()
    publisher.close()
    assert absent.receive()["side"] == "buy"


def test_several_threads_may_close_a_publisher(absent: FakeSidecar) -> None:
    publisher = publisher_to(absent)
    publisher.publish("buy")
    threads = [threading.Thread(target=publisher.close, args=(0.1,), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_flush_ignores_trades_published_after_it_began(sidecar: FakeSidecar) -> None:
    stop = threading.Event()

    def publish_more() -> None:
        while not stop.wait(0.001):
            publisher.publish("sell")

    with publisher_to(sidecar) as publisher:
        flow = threading.Thread(target=publish_more)
        flow.start()
        publisher.publish("buy")
        flushed = publisher.flush(20)
        stop.set()
        flow.join()
    assert flushed


@pytest.mark.parametrize("url", ["localhost:8001", "http://localhost:abc", "ftp://localhost", "http://"])
def test_an_invalid_sidecar_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^not an HTTP address: "):
        TradePublisher("tcp://localhost:5555", sidecar_url=url)


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^not a ZeroMQ address: tcp://nowhere \("):
        TradePublisher("tcp://nowhere", sidecar_url="http://localhost:8001")


def test_publish_does_not_wait_for_a_stopped_sidecar(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        publisher.publish("buy")
        sidecar.close()
        for _ in range(5000):
            publisher.publish("buy")
        sidecar.open()
        assert publisher.flush(30)


def test_a_sidecar_with_a_new_state_file_gets_a_gap_fill(
    sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture
) -> None:
    with publisher_to(sidecar) as publisher:
        publisher.publish("buy")
        assert publisher.flush()
        sidecar.next_seq.clear()
        sidecar.state_id = "second"
        trade = publisher.publish("buy")
        assert publisher.flush(20)
    assert {"type": "gap_fill", "session": trade.session, "new_seq": 2} in sidecar.receive_all()
    assert "the sidecar has another state file than before; trades go to" in caplog.text


def test_trades_that_are_never_committed_are_resent_at_growing_intervals_and_logged_once(
    sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading_app.sender.RESEND_SECONDS", 0.05)
    monkeypatch.setattr("trading_app.sender.MAX_RESEND_SECONDS", 0.4)
    sidecar.commits = False
    publisher = publisher_to(sidecar)
    publisher.publish("buy")
    at: list[float] = []
    while len(at) < 6:
        sidecar.receive()
        at.append(time.monotonic())
    intervals = [after - before for before, after in pairwise(at)]
    assert intervals[4] > 2 * intervals[0]
    publisher.close(0)
    (line,) = [line for line in caplog.messages if "the sidecar answers, but its cursor does not move" in line]
    assert sidecar.address in line
    assert sidecar.url in line


def test_a_sidecar_that_does_not_answer_is_logged_once_per_outage(
    absent: FakeSidecar, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading_app.sender.RESEND_SECONDS", 0.2)

    def warnings() -> list[str]:
        return [line for line in caplog.messages if "the sidecar does not answer: Connection refused" in line]

    with publisher_to(absent) as publisher:
        for outage in 1, 2:
            publisher.publish("buy")
            publisher.publish("sell")
            assert eventually(lambda: len(warnings()) == outage)  # noqa: B023
            assert not publisher.flush(timeout=0.5)
            assert len(warnings()) == outage
            absent.open()
            assert publisher.flush(20)
            absent.close()
    assert f"trades go to {absent.address}; cursors come from {absent.url}" in warnings()[0]


def test_the_interval_of_resending_has_a_limit(sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading_app.sender.RESEND_SECONDS", 0.05)
    monkeypatch.setattr("trading_app.sender.MAX_RESEND_SECONDS", 0.2)
    sidecar.commits = False
    publisher = publisher_to(sidecar)
    publisher.publish("buy")
    # Without a limit, the twelfth copy would arrive after 102 s.
    assert [sidecar.receive(timeout=20)["seq"] for _ in range(12)] == [1] * 12
    publisher.close(0)


def test_a_commit_resets_the_interval_of_resending(sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading_app.sender.RESEND_SECONDS", 0.05)
    sidecar.commits = False
    publisher = publisher_to(sidecar)
    trade = publisher.publish("buy")
    for _ in range(7):
        sidecar.receive()
    sidecar.next_seq[trade.session] = 2
    assert publisher.flush(20)
    sidecar.receive_all()
    publisher.publish("sell")
    # Without the reset, the fifth copy would arrive after 48 s.
    assert [sidecar.receive(timeout=20)["seq"] for _ in range(5)] == [2] * 5
    publisher.close(0)


@pytest.mark.parametrize(
    "error, line",
    [
        pytest.param(zmq.ZMQError(24, "no sockets"), "no sockets", id="sockets"),
        pytest.param(OutboxError("no room"), "no room", id="outbox"),
        pytest.param(MemoryError(), "out of memory", id="memory"),
    ],
)
def test_a_publisher_recovers_from_an_error_in_its_thread(
    sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture, error: Exception, line: str
) -> None:
    failures = 0

    def fail(_: object) -> None:
        nonlocal failures
        failures += 1
        raise error

    with publisher_to(sidecar) as publisher:
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr("trading_app.outlet.Outlet.mend", fail)
            broken.setattr("trading_app.sender._PAUSE_SECONDS", 0.01)
            sidecar.commits = False
            publisher.publish("buy")
            assert eventually(lambda: failures > 5)
        sidecar.commits = True
        publisher.publish("buy")
        assert publisher.flush(20)
    where = f"trades go to {sidecar.address}; cursors come from {sidecar.url}"
    assert [message for message in caplog.messages if "trying again" in message] == [f"{line}; trying again; {where}"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_after_a_defect_in_its_thread_a_publisher_refuses_trades_with_the_cause(
    sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr("trading_app.outlet.Outlet.mend", fail)
    with publisher_to(sidecar) as publisher:

        def refusal() -> str:
            try:
                publisher.publish("buy")
            except RuntimeError as error:
                return str(error)
            return ""

        assert eventually(refusal) == "the sending thread failed: LookupError('a defect')"


def test_a_trade_wakes_an_idle_publisher(sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading_app.sender._IDLE_SECONDS", 60.0)
    with publisher_to(sidecar) as publisher:
        publisher.publish("buy", 1)
        assert publisher.flush()
        requests = -1
        while sidecar.requests > requests:  # Until its thread sleeps.
            requests = sidecar.requests
            time.sleep(0.3)
        publisher.publish("buy", 2)
        assert eventually(lambda: sidecar.receive()["qty"] == 2)


def test_wait_returns_when_the_trade_is_delivered_or_its_time_is_up(sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    with publisher_to(sidecar) as publisher:
        trade = publisher.publish("buy")
        began = time.monotonic()
        assert publisher.wait(trade, timeout=0.2) == "waiting"
        assert time.monotonic() - began >= 0.2
        threading.Timer(0.2, sidecar.next_seq.update, ({trade.session: 2},)).start()
        assert publisher.wait(trade, timeout=20.0) == "delivered"


def test_each_reason_why_no_trade_is_committed_is_logged(
    absent: FakeSidecar, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading_app.sender.RESEND_SECONDS", 0.2)
    absent.commits = False
    publisher = publisher_to(absent)
    publisher.publish("buy")
    assert eventually(lambda: "the sidecar does not answer: Connection refused" in caplog.text)
    absent.open()
    assert eventually(lambda: "the sidecar answers, but its cursor does not move" in caplog.text)
    publisher.close(0)


def test_a_cursor_beyond_the_last_trade_starts_a_new_session(
    sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture
) -> None:
    with publisher_to(sidecar) as publisher:
        first = publisher.publish("buy")
        assert publisher.flush()
        sidecar.next_seq[first.session] = 10**12
        trades = [publisher.publish("sell") for _ in range(3)]
        assert publisher.flush(20)
        assert [publisher.status(trade) for trade in trades] == ["delivered"] * 3
        (session,) = set(sidecar.next_seq) - {first.session}
    assert sidecar.next_seq[session] == 4
    assert f"session {first.session}: the sidecar expects trade 1000000000000, which was never published" in caplog.text


@pytest.mark.parametrize("capacity", [0, -1, 1.5, "many", True])
def test_an_invalid_capacity_is_refused(absent: FakeSidecar, capacity: Any) -> None:
    with pytest.raises(ValueError, match=r"^the capacity must be a whole number above 0, not "):
        publisher_to(absent, capacity=capacity)


@pytest.mark.parametrize(
    "order, problem",
    [
        pytest.param({"side": "short"}, "side must be buy or sell, not 'short'", id="unknown side"),
        pytest.param({"side": ["buy"]}, "side must be buy or sell, not ['buy']", id="side in a list"),
        pytest.param({"qty": 0}, "the quantity must be above 0 and at most 1e+12, not 0", id="qty 0"),
        pytest.param({"qty": 1e13}, "the quantity must be above 0 and at most 1e+12, not 1e+13", id="qty too large"),
        pytest.param({"qty": float("nan")}, "the quantity must be above 0 and at most 1e+12, not nan", id="qty nan"),
        pytest.param({"qty": 10**400}, "the quantity must be above 0 and at most 1e+12, not inf", id="qty overflows"),
        pytest.param({"qty": "1_000"}, "the quantity must be a number, not '1_000'", id="qty as a string"),
        pytest.param({"qty": True}, "the quantity must be a number, not True", id="qty as a boolean"),
        pytest.param({"qty": None}, "the quantity must be a number, not None", id="qty None"),
        pytest.param({"price": -1}, "the price must be from 0 to 1e+12, not -1", id="negative price"),
        pytest.param({"price": float("inf")}, "the price must be from 0 to 1e+12, not inf", id="infinite price"),
        pytest.param({"symbol": ""}, "the symbol must be 1 to 32 characters from A-Z", id="empty symbol"),
        pytest.param({"symbol": "BTC USD"}, "the symbol must be 1 to 32 characters from A-Z", id="symbol with a space"),
        pytest.param({"symbol": "x" * 33}, "the symbol must be 1 to 32 characters from A-Z", id="symbol too long"),
    ],
)
def test_a_trade_that_breaks_the_contract_is_refused(absent: FakeSidecar, order: dict[str, Any], problem: str) -> None:
    publisher = publisher_to(absent)
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
        publisher.publish(**{"side": "buy", **order})
    assert publisher.pending == 0
    publisher.close(0)


def test_symbol_and_price_are_part_of_the_trade(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        publisher.publish("buy", 2, symbol="BTC-USD", price=64250.5)
        publisher.publish("buy")
        first, second = sidecar.receive(), sidecar.receive()
    assert (first["symbol"], first["price"]) == ("BTC-USD", 64250.5)
    assert not {"symbol", "price"} & set(second)


def run(script: str, sidecar: FakeSidecar, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has a ``publisher``."""
    lines = [
        "import gc, logging, multiprocessing, os, sys, threading, time",
        "from trading_app.publisher import TradePublisher",
        "logging.basicConfig(format='%(message)s')",
        "outbox = sys.argv[1] if sys.argv[1:] else None",
        f"publisher = TradePublisher({sidecar.address!r}, sidecar_url={sidecar.url!r}, outbox=outbox)",
        textwrap.dedent(script),
    ]
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", "\n".join(lines), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CHILD = """
def child():
    try:
        publisher.publish("sell")
    except RuntimeError as error:
        print(error, flush=True)
    publisher.close()
"""


def test_a_publisher_works_only_in_the_process_that_created_it(sidecar: FakeSidecar, tmp_path: Path) -> None:
    ended = run(
        CHILD
        + """
for _ in range(1000):
    publisher.publish("buy")
if not os.fork():
    child()
    sys.exit()
os.wait()
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
print(process.exitcode)
publisher.publish("buy")
publisher.close()
print(publisher.pending)
""",
        sidecar,
        str(tmp_path / "bot"),
    )
    first, second, code, pending = ended.stdout.splitlines()
    assert "this publisher belongs to process" in first
    assert "this publisher belongs to process" in second
    assert (code, pending, ended.stderr) == ("0", "0", "")
    assert [message["seq"] for message in sidecar.receive_distinct()] == list(range(1, 1002))


def test_a_forked_child_releases_the_outbox_of_a_killed_parent(absent: FakeSidecar, tmp_path: Path) -> None:
    ended = run(
        """
publisher.publish("buy")
if not os.fork():
    os.close(1), os.close(2)
    import time
    time.sleep(60)
os.kill(os.getpid(), 9)
""",
        absent,
        str(tmp_path / "bot"),
    )
    assert ended.returncode == -9
    with publisher_to(absent, tmp_path / "bot") as publisher:
        assert publisher.pending == 1
        publisher.close(0)


def test_a_program_that_exits_without_close_delivers_its_trades(sidecar: FakeSidecar) -> None:
    ended = run("for _ in range(5000): publisher.publish('buy')", sidecar)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(sidecar.receive_distinct()) == 5000


def test_a_program_that_cannot_deliver_logs_the_lost_trades_at_exit(absent: FakeSidecar) -> None:
    ended = run(
        """
import trading_app.sender
trading_app.sender.EXIT_SECONDS = 0.2
for _ in range(5): publisher.publish('buy')
""",
        absent,
    )
    assert "closed with 5 trades that the sidecar has not committed; they are lost" in ended.stderr


def test_a_garbage_collected_publisher_is_flushed_and_closed(sidecar: FakeSidecar) -> None:
    ended = run(
        """
def sockets():
    links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sum("socket:" in link for link in links)

publisher.publish("buy")
assert publisher.flush(10)
(thread,) = [thread for thread in threading.enumerate() if thread.name == "publisher"]
del publisher
gc.collect()
thread.join(10)
deadline = time.monotonic() + 10
while sockets() and time.monotonic() < deadline:  # ZeroMQ closes its sockets in the background.
    time.sleep(0.01)
print(thread.is_alive(), sockets())
""",
        sidecar,
    )
    assert ended.stdout.split() == ["False", "0"], ended.stderr
    assert sidecar.receive()["side"] == "buy"


def test_a_publisher_recovers_when_its_outbox_can_be_used_again(
    sidecar: FakeSidecar, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with publisher_to(sidecar, tmp_path / "bot", capacity=8) as publisher:
        publisher.publish("buy")
        assert publisher.flush()
        monkeypatch.setattr("trading_app.journal.Journal.tidy", raise_no_descriptors)
        publisher.publish("buy")
        assert eventually(lambda: "Too many open files; trying again" in caplog.text)
        monkeypatch.undo()
        publisher.publish("buy")
        assert publisher.flush(20)


def raise_no_descriptors(_: object) -> None:
    raise OSError(24, "Too many open files")


def test_a_publisher_whose_sockets_cannot_be_opened_releases_its_outbox(
    sidecar: FakeSidecar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmq.Socket.get_monitor_socket", raise_no_sockets)
    with pytest.raises(zmq.ZMQError, match="Too many open files"):
        publisher_to(sidecar, tmp_path / "bot")
    monkeypatch.undo()
    with publisher_to(sidecar, tmp_path / "bot") as publisher:
        publisher.publish("buy")
        assert publisher.flush()


def raise_no_sockets(*_: object) -> None:
    raise zmq.ZMQError(24, "Too many open files")
