"""The wire contract: how messages are encoded, and which values are accepted."""

import json
import math
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_app.messages import (
    MAX_LINE_BYTES,
    SIDES,
    Side,
    Trade,
    check_price,
    check_qty,
    check_side,
    check_symbol,
    decode,
    encode,
)

symbols = st.none() | st.from_regex(r"[A-Za-z0-9._:/-]{1,32}", fullmatch=True)
trades = st.builds(
    Trade,
    st.sampled_from(SIDES),
    st.floats(0, 1e12, exclude_min=True),
    st.floats(0, 1e11),
    st.from_regex(r"[A-Za-z0-9._-]{16,64}", fullmatch=True),
    st.integers(1, 10**12),
    symbols,
    st.none() | st.floats(0, 1e12),
)


@given(trades)
def test_a_trade_survives_encoding_and_decoding(trade: Trade) -> None:
    line = encode(trade)
    assert decode(line) == trade
    assert b"\n" not in line
    assert len(line) < MAX_LINE_BYTES
    fields = {name: value for name, value in msgspec.structs.asdict(trade).items() if value is not None}
    assert json.loads(line) == {"type": "trade", **fields}


class Way(str, Enum):  # noqa: UP042 - a StrEnum formats as its value, this one does not
    BUY = "buy"


def test_checked_values_are_plain_strings_and_floats() -> None:
    class Symbol(str):
        __slots__ = ()

    order: list[Any] = [check_side(Way.BUY), check_qty(Decimal("2.5")), check_symbol(Symbol("BTC")), check_price(2)]
    assert [type(value) for value in order] == [str, float, str, float]
    assert order == ["buy", 2.5, "BTC", 2.0]


@pytest.mark.parametrize("side", SIDES)
def test_a_side_is_accepted(side: Side) -> None:
    assert check_side(side) == side


@pytest.mark.parametrize("qty", [1, 0.001, 1e12])
def test_a_quantity_above_0_is_accepted(qty: float) -> None:
    assert check_qty(qty) == qty


@pytest.mark.parametrize("qty", [0, -1, 1.1e12, math.nan, math.inf, -math.inf, 10**400, Decimal("1e-400")])
def test_a_quantity_out_of_range_is_refused(qty: float) -> None:
    with pytest.raises(ValueError, match=r"^the quantity must be above 0 and at most 1e\+12, not "):
        check_qty(qty)


@pytest.mark.parametrize("price", [0, 64250.5, 1e12])
def test_a_price_from_0_is_accepted(price: float) -> None:
    assert check_price(price) == price


@pytest.mark.parametrize("side", ["", "BUY", "short"])
def test_an_unknown_side_is_refused(side: str) -> None:
    with pytest.raises(ValueError, match=r"^side must be buy or sell, not "):
        check_side(side)


@pytest.mark.parametrize("symbol", ["", "BTC USD", "x" * 33, "BTC\n", math.nan, 5, True, b"BTC", ["BTC"], {}])
def test_an_invalid_symbol_is_refused(symbol: Any) -> None:
    with pytest.raises(ValueError, match=r"^the symbol must be 1 to 32 characters from A-Z a-z 0-9 \. _ : / -, not "):
        check_symbol(symbol)


class Coin(str, Enum):  # noqa: UP042 - as above
    ETHER = "ETH"


def test_the_symbol_of_an_enumeration_is_its_value() -> None:
    assert [check_symbol(Coin.ETHER), check_symbol(Coin.ETHER)] == ["ETH", "ETH"]
    assert type(check_symbol(Coin.ETHER)) is str
