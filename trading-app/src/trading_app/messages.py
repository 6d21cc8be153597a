"""The wire contract from the publisher's side: the messages and their encoding."""

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Final, Literal, SupportsFloat, get_args

import msgspec
from msgspec import Meta, Struct

type Side = Literal["buy", "sell"]

SIDES: tuple[Side, ...] = get_args(Side.__value__)
MAX_QTY: Final = 1e12
MAX_PRICE: Final = 1e12
MAX_SEQ: Final = 10**12
# The longest line of a trade, with its newline.
MAX_LINE_BYTES: Final = 512

_SESSION: Final = r"^[A-Za-z0-9._-]{1,64}\Z"
SYMBOL: Final = r"^[A-Za-z0-9._:/-]{1,32}$"

_SIDES: dict[str, Side] = {side: side for side in SIDES}
_SYMBOL = re.compile(SYMBOL[1:-1])


class Trade(Struct, frozen=True, gc=False, tag_field="type", tag="trade", omit_defaults=True):
    """One trade.

    ``qty`` is in units traded, ``ts`` is Unix time in seconds, ``price`` is per unit. ``seq`` numbers the trades of
    ``session``: 1, 2, 3, …
    """

    side: Literal["buy", "sell"]
    qty: Annotated[float, Meta(ge=0, le=MAX_QTY)]
    ts: Annotated[float, Meta(ge=0, le=1e11)]
    session: Annotated[str, Meta(pattern=_SESSION)]
    seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)]
    symbol: Annotated[str, Meta(pattern=SYMBOL)] | None = None
    price: Annotated[float, Meta(ge=0, le=MAX_PRICE)] | None = None


class GapFill(Struct, frozen=True, gc=False, tag_field="type", tag="gap_fill"):
    """Declares the trades of ``session`` below ``new_seq`` lost, unless they are counted already."""

    session: Annotated[str, Meta(pattern=_SESSION)]
    new_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ + 1)]


encode: Callable[[Trade | GapFill], bytes] = msgspec.json.Encoder().encode
decode: Callable[[bytes], Trade | GapFill] = msgspec.json.Decoder(Trade | GapFill).decode


def check_side(side: str) -> Side:
    """Return the side as a plain string.

    Raises:
        ValueError: the side is neither buy nor sell.
    """
    try:
        return _SIDES[side]
    except (KeyError, TypeError):
        raise ValueError(f"side must be buy or sell, not {side!r}") from None


def check_qty(qty: SupportsFloat) -> float:
    """Return the quantity as a plain float.

    Raises:
        ValueError: the quantity is not a number above 0 and at most 1e12.
    """
    number = _number("the quantity", qty)
    if not 0.0 < number <= MAX_QTY:
        raise ValueError(f"the quantity must be above 0 and at most {MAX_QTY:g}, not {number:g}")
    return number


def check_price(price: SupportsFloat) -> float:
    """Return the price as a plain float.

    Raises:
        ValueError: the price is not a number from 0 to 1e12.
    """
    number = _number("the price", price)
    if not 0.0 <= number <= MAX_PRICE:
        raise ValueError(f"the price must be from 0 to {MAX_PRICE:g}, not {number:g}")
    return number


def check_symbol(symbol: object) -> str:
    """Return the symbol as a plain string.

    Raises:
        ValueError: the symbol is not 1 to 32 characters from ``A-Z a-z 0-9 . _ : / -``.
    """
    if isinstance(symbol, str) and (known := _known_symbol(symbol)):
        return known
    raise ValueError(f"the symbol must be 1 to 32 characters from A-Z a-z 0-9 . _ : / -, not {symbol!r}")


@lru_cache(maxsize=4096)
def _known_symbol(symbol: str) -> str | None:
    match = _SYMBOL.fullmatch(symbol)
    # The match is a plain string. str() of an enumeration's member would be the member's name.
    return match[0] if match else None


def _number(what: str, value: SupportsFloat) -> float:
    if type(value) is float:
        return value
    try:
        # float() would accept "1_000" and True.
        if not isinstance(value, bool | str | bytes | bytearray):
            return float(value)
    except OverflowError:
        return math.inf
    except TypeError:
        pass
    raise ValueError(f"{what} must be a number, not {value!r}")
