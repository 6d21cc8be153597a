"""The most recently counted trades."""

import sys

import pytest

from metrics_sidecar.messages import Trade, decode
from metrics_sidecar.recent import KEPT, Recent


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 5000])
def test_the_last_trades_are_returned_for_any_batch_size(size: int) -> None:
    recent = Recent()
    for start in range(0, 10_000, size):
        recent.add([Trade("buy", number, 99.0) for number in range(start, start + size)], float(start))
    newest = start + size - 1
    last = recent.last(KEPT)
    assert [trade.qty for trade in last] == list(range(newest, newest - KEPT, -1))
    assert [trade.received_at for trade in last] == [trade.qty // size * size for trade in last]
    assert recent.last(3) == last[:3]


@pytest.mark.parametrize("size", [1, 999, 5000])
def test_older_trades_are_released(size: int) -> None:
    recent = Recent()
    trades = [Trade("buy", number, 99.0) for number in range(10_000)]
    unreferenced = sys.getrefcount(trades[0])
    for start in range(0, len(trades), size):
        recent.add(trades[start : start + size], 100.0)
    assert KEPT <= sum(sys.getrefcount(trades[number]) > unreferenced for number in range(len(trades))) < 2 * KEPT


def test_fewer_trades_are_returned_at_first() -> None:
    recent = Recent()
    assert recent.last(KEPT) == []
    recent.add([Trade("buy", 1.0, 99.0)], 100.0)
    assert len(recent.last(KEPT)) == 1


def test_a_price_of_0_differs_from_no_price() -> None:
    recent = Recent()
    frames = (
        b'{"type": "trade", "side": "buy", "qty": 1, "ts": 99}',
        b'{"type": "trade", "side": "buy", "qty": 1, "ts": 99, "price": 0}',
    )
    for frame in frames:
        recent.add([trade for trade in decode(frame) if isinstance(trade, Trade)], 100.0)
    assert [trade.price for trade in recent.last(2)] == [0.0, None]
