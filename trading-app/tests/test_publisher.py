"""The publisher: it never waits for the side-car, and every trade arrives, in sequence, until it is committed."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from app_process import FakeSidecar

from trading_app.outbox import MemoryOutbox, OutboxInUse
from trading_app.publisher import TradePublisher


def publisher_to(sidecar: FakeSidecar, outbox: MemoryOutbox | Path | None = None) -> TradePublisher:
    return TradePublisher(sidecar.address, sidecar_url=sidecar.url, outbox=outbox)


def test_a_trade_arrives_as_published(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        before = time.time()
        trade = publisher.publish("buy", qty=2.5)
        assert sidecar.receive() == {"type": "trade", **msgspec.structs.asdict(trade)}
    assert (trade.side, trade.qty, trade.seq) == ("buy", 2.5, 1)
    assert before <= trade.ts <= time.time()


def test_the_quantity_is_1_unless_given(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        assert publisher.publish("sell").qty == 1.0


def test_words_and_numbers_of_other_types_are_taken_for_what_they_mean(sidecar: FakeSidecar) -> None:
    class Word(str):
        """As a data frame has them."""

    with publisher_to(sidecar) as publisher:
        publisher.publish(Word("sell"), 2)  # type: ignore[arg-type]
        message = sidecar.receive()
    assert (message["side"], message["qty"]) == ("sell", 2.0)


def test_a_trade_waits_until_it_is_committed(sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    with publisher_to(sidecar) as publisher:
        trade = publisher.publish("buy")
        sidecar.receive()
        assert not publisher.flush(timeout=0.2)
        assert (publisher.pending, publisher.status(trade)) == (1, "waiting")
        sidecar.next_seq[trade.session] = 2
        assert publisher.flush()
        assert (publisher.pending, publisher.status(trade)) == (0, "delivered")


def test_trades_wait_while_the_side_car_is_away_and_go_in_order_once_it_is_there(absent: FakeSidecar) -> None:
    with publisher_to(absent) as publisher:
        for qty in range(1, 2001):
            publisher.publish("buy", qty)
        assert publisher.pending == 2000
        assert not publisher.flush(timeout=0)
        absent.open()
        assert publisher.flush(20)
    assert [trade["qty"] for trade in absent.receive_all()] == list(range(1, 2001))


def test_what_is_not_committed_is_sent_again(sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    with publisher_to(sidecar) as publisher:
        for _ in range(3):
            publisher.publish("buy")
        assert [sidecar.receive()["seq"] for _ in range(3)] == [1, 2, 3]
        sidecar.commits = True  # as a side-car that has lost what it had received
        assert publisher.flush()
    assert [trade["seq"] for trade in sidecar.receive_all()] == [1, 2, 3]


# One may come while a callback of the garbage collector runs, which cannot pass it on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("capacity", [1_000_000, 10])
def test_ctrl_c_at_any_step_leaves_a_publisher_that_goes_on(sidecar: FakeSidecar, capacity: int) -> None:
    published, interrupts = [], 0
    # So that the small outbox is full.
    sidecar.commits = capacity > 10
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with publisher_to(sidecar, MemoryOutbox(capacity)) as publisher:
            for number in range(300):
                # One may come while ZeroMQ's own code runs, which keeps it to itself.
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


def test_it_finds_a_side_car_that_went_and_came_back(sidecar: FakeSidecar) -> None:
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


def test_a_side_car_that_has_forgotten_everything_is_told_of_the_gap(sidecar: FakeSidecar) -> None:
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


def test_trades_of_many_threads_all_arrive(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        threads = [threading.Thread(target=lambda: [publisher.publish("buy") for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert publisher.flush(20)
    assert sorted({trade["seq"] for trade in sidecar.receive_all()}) == list(range(1, 4001))


def test_a_full_outbox_drops_the_oldest_and_says_how_many(absent: FakeSidecar) -> None:
    with publisher_to(absent, MemoryOutbox(capacity=10)) as publisher:
        trades = [publisher.publish("buy") for _ in range(15)]
        assert (publisher.pending, publisher.lost) == (10, 5)
        assert [publisher.status(trade) for trade in trades[4:6]] == ["lost", "waiting"]
        absent.open()
        assert publisher.flush(20)
    assert absent.receive()["new_seq"] == 6
    assert [trade["seq"] for trade in absent.receive_all()][:10] == list(range(6, 16))


def test_an_order_that_makes_no_trade_is_refused_and_not_sent(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        with pytest.raises(ValueError, match="quantity"):
            publisher.publish("buy", 0)
        publisher.publish("buy", 7)
        assert sidecar.receive()["qty"] == 7


def test_a_trade_published_by_a_process_that_ended_is_sent_by_the_next(absent: FakeSidecar, tmp_path: Path) -> None:
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


def test_closing_waits_no_longer_than_told(absent: FakeSidecar) -> None:
    publisher = publisher_to(absent)
    publisher.publish("buy")
    publisher.close(timeout=0)
    publisher.close(timeout=0)
    with pytest.raises(RuntimeError, match="closed"):
        publisher.publish("buy")


def test_closing_sends_what_waits(absent: FakeSidecar) -> None:
    publisher = publisher_to(absent)
    publisher.publish("buy")
    absent.open()
    publisher.close()
    assert absent.receive()["side"] == "buy"


def test_many_may_close_it_at_once(absent: FakeSidecar) -> None:
    publisher = publisher_to(absent)
    publisher.publish("buy")
    threads = [threading.Thread(target=publisher.close, args=(0.1,), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_flush_does_not_wait_for_what_is_published_meanwhile(sidecar: FakeSidecar) -> None:
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.001):
            publisher.publish("sell")

    with publisher_to(sidecar) as publisher:
        flow = threading.Thread(target=go_on)
        flow.start()
        publisher.publish("buy")
        flushed = publisher.flush(20)
        stop.set()
        flow.join()
    assert flushed


@pytest.mark.parametrize("url", ["localhost:8001", "http://localhost:abc", "ftp://localhost", "http://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TradePublisher("tcp://localhost:5555", sidecar_url=url)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a ZeroMQ address: tcp://nowhere"):
        TradePublisher("tcp://nowhere", sidecar_url="http://localhost:8001")


def test_publishing_after_the_side_car_is_gone_needs_no_patience(sidecar: FakeSidecar) -> None:
    with publisher_to(sidecar) as publisher:
        publisher.publish("buy")
        sidecar.close()
        for _ in range(5000):
            publisher.publish("buy")
        sidecar.open()
        assert publisher.flush(30)
