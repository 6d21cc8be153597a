"""The wire contract, from the publisher's side: what a trade is and how it is written."""

import math
from collections.abc import Callable
from typing import Literal, SupportsFloat, get_args

import msgspec
from msgspec import Struct

type Side = Literal["buy", "sell"]

SIDES: tuple[Side, ...] = get_args(Side.__value__)


class Trade(Struct, frozen=True, gc=False, tag_field="type", tag="trade"):
    """One trade: ``qty`` in units traded, ``ts`` in Unix seconds, ``seq`` its number within its publisher's session."""

    side: Side
    qty: float
    ts: float
    session: str
    seq: int


# A trade as one message of ``contract/trade.schema.json``.
encode: Callable[[Trade], bytes] = msgspec.json.Encoder().encode


def encode_gap_fill(session: str, new_seq: int) -> bytes:
    """The message that says: the trades of ``session`` below ``new_seq`` will not come again."""
    return f'{{"type":"gap_fill","session":"{session}","new_seq":{new_seq}}}'.encode()


def check_order(side: str, qty: SupportsFloat) -> tuple[Side, float]:
    """The order as it may be written: a plain string, a plain float.

    Raises:
        ValueError: the side is unknown, or the quantity is not a finite number above 0; the message says which.
    """
    try:
        plain_side = SIDES[SIDES.index(side)]
    except ValueError:
        raise ValueError(f"side must be buy or sell, not {side!r}") from None
    try:
        plain_qty = float(qty)
    except OverflowError:
        plain_qty = math.inf
    if not 0 < plain_qty < math.inf:
        raise ValueError(f"the quantity must be a finite number above 0, not {plain_qty:g}")
    return plain_side, plain_qty
