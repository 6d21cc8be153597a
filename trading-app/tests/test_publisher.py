"""The publisher: it never waits for the side-car, and what waits is in the outbox."""

import threading
import time

import pytest
from app_process import Pull, eventually

from trading_app.outbox import MemoryOutbox
from trading_app.publisher import TradePublisher


def test_a_trade_arrives_as_published(pull: Pull) -> None:
    with TradePublisher(pull.address) as publisher:
        before = time.time()
        trade = publisher.publish("buy", qty=2.5)
        message = pull.receive()
    assert message == {"type": "trade", "side": "buy", "qty": 2.5, "ts": trade.ts}
    assert before <= trade.ts <= time.time()


def test_the_quantity_is_1_unless_given(pull: Pull) -> None:
    with TradePublisher(pull.address) as publisher:
        publisher.publish("sell")
        assert pull.receive()["qty"] == 1.0


def test_trades_wait_while_the_side_car_is_away_and_go_in_order_once_it_is_there(absent: Pull) -> None:
    with TradePublisher(absent.address) as publisher:
        for qty in range(1, 2001):
            publisher.publish("buy", qty)
        assert publisher.pending == 2000
        assert not publisher.flush(timeout=0)
        absent.open()
        assert [absent.receive()["qty"] for _ in range(2000)] == list(range(1, 2001))
        assert publisher.flush()
        assert publisher.pending == 0


def test_it_finds_a_side_car_that_went_and_came_back(pull: Pull) -> None:
    with TradePublisher(pull.address) as publisher:
        publisher.publish("buy", 1)
        pull.receive()
        pull.close()
        assert eventually(lambda: (publisher.publish("buy", 2), publisher.pending)[1])
        publisher.publish("buy", 3)
        pull.open()
        assert eventually(lambda: pull.receive()["qty"] == 3)
        assert publisher.flush()


def test_trades_of_many_threads_all_arrive(pull: Pull) -> None:
    with TradePublisher(pull.address) as publisher:
        threads = [threading.Thread(target=lambda: [publisher.publish("buy") for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(4000):
            pull.receive()
        for thread in threads:
            thread.join()
    assert pull.is_silent()


def test_a_full_outbox_drops_the_oldest_and_says_how_many(absent: Pull) -> None:
    with TradePublisher(absent.address, outbox=MemoryOutbox(capacity=10)) as publisher:
        for qty in range(1, 16):
            publisher.publish("buy", qty)
        assert (publisher.pending, publisher.lost) == (10, 5)
        absent.open()
        assert absent.receive()["qty"] == 6


def test_an_order_that_makes_no_trade_is_refused_and_not_sent(pull: Pull) -> None:
    with TradePublisher(pull.address) as publisher:
        with pytest.raises(ValueError, match="quantity"):
            publisher.publish("buy", 0)
        publisher.publish("buy", 7)
        assert pull.receive()["qty"] == 7


def test_closing_waits_no_longer_than_told(absent: Pull) -> None:
    publisher = TradePublisher(absent.address)
    publisher.publish("buy")
    publisher.close(timeout=0)
    publisher.close(timeout=0)
    with pytest.raises(RuntimeError, match="closed"):
        publisher.publish("buy")


def test_closing_sends_what_waits(absent: Pull) -> None:
    publisher = TradePublisher(absent.address)
    publisher.publish("buy")
    absent.open()
    publisher.close()
    assert absent.receive()["side"] == "buy"


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a ZeroMQ address: tcp://nowhere"):
        TradePublisher("tcp://nowhere")
