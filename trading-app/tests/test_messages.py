"""What a trade is, and what an order must be to make one."""

import json
import math
from decimal import Decimal
from enum import Enum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_app.messages import SIDES, Side, Trade, check_order, encode


@given(st.sampled_from(SIDES), st.floats(0, exclude_min=True, allow_infinity=False), st.floats(0, 1e12))
def test_a_trade_is_written_so_that_it_reads_back_the_same(side: Side, qty: float, ts: float) -> None:
    trade = Trade(side, qty, ts, "s-1", 7)
    assert json.loads(encode(trade)) == {"type": "trade", **msgspec.structs.asdict(trade)}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("qty", [1, 0.001, 1e9])
def test_an_order_of_some_quantity_is_fine(side: str, qty: float) -> None:
    assert check_order(side, qty) == (side, qty)


class Way(str, Enum):  # noqa: UP042 - a StrEnum formats as its value, this one does not
    BUY = "buy"


def test_what_equals_a_side_or_a_number_is_written_as_one() -> None:
    side, qty = check_order(Way.BUY, Decimal("2.5"))
    assert (type(side), type(qty)) == (str, float)
    assert b'"side":"buy","qty":2.5,' in encode(Trade(side, qty, 100.0, "s", 1))


@pytest.mark.parametrize("qty", [0, -1, math.nan, math.inf, -math.inf, 10**400, Decimal("1e-400")])
def test_an_order_of_no_quantity_is_refused(qty: float) -> None:
    with pytest.raises(ValueError, match="quantity must be a finite number above 0"):
        check_order("buy", qty)


@pytest.mark.parametrize("side", ["", "BUY", "short"])
def test_an_order_of_no_side_is_refused(side: str) -> None:
    with pytest.raises(ValueError, match="side must be buy or sell"):
        check_order(side, 1.0)
