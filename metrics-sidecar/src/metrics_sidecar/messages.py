"""The wire contract: what a frame holds, and why a part of it is rejected.

The contract is ``contract/trade.schema.json``. A frame is UTF-8 text with any number of messages, one JSON object each.
Whether a message is valid depends on its frame alone.
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Annotated, Any, Literal, final, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

MAX_BYTES = 2**20
MAX_SEQ = 10**12
SESSION = r"^[A-Za-z0-9._-]{1,64}$"
SYMBOL = r"^[A-Za-z0-9._:/-]{1,32}$"

type Side = Literal["buy", "sell"]
type Reason = Literal[
    "too_large", "not_utf8", "not_json", "not_object", "unknown_type", "missing_field", "invalid_field"
]

SIDES: tuple[Side, ...] = get_args(Side.__value__)
REASONS: tuple[Reason, ...] = get_args(Reason.__value__)


@final
class Trade(Struct, tag_field="type", tag="trade", gc=False):
    """One trade: ``qty`` in units, ``ts`` in Unix seconds, ``price`` per unit.

    ``session`` is "" and ``seq`` 0 where the trade is not tracked; ``symbol`` is "" and ``price`` UNSET where it has
    none.
    """

    side: Literal["buy", "sell"]
    qty: Annotated[float, Meta(ge=0, le=1e12)]
    ts: Annotated[float, Meta(ge=0, le=1e11)]
    session: Annotated[str, Meta(min_length=1, max_length=64)] = ""
    seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)] = 0
    symbol: Annotated[str, Meta(min_length=1, max_length=32)] = ""
    price: Annotated[float, Meta(ge=0, le=1e12)] | UnsetType = UNSET


@final
class GapFill(Struct, tag_field="type", tag="gap_fill", gc=False):
    """The trades of ``session`` below ``new_seq`` that were not counted yet will not come again."""

    session: Annotated[str, Meta(min_length=1, max_length=64)]
    new_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ + 1)]


@final
class Rejected(Struct, gc=False):
    """A message that breaks the contract, and its first bytes.

    ``session`` and ``seq`` are those of an invalid trade where both are valid themselves, else "" and 0.
    """

    reason: Reason
    detail: str
    start: bytes
    session: str = ""
    seq: int = 0


type Message = Trade | GapFill | Rejected

_REQUIRED = {"trade": ("side", "qty", "ts"), "gap_fill": ("session", "new_seq")}
_EXCERPT = 80
_decoder = msgspec.json.Decoder(Trade | GapFill)
_decode_one, _decode_lines = _decoder.decode, _decoder.decode_lines
_is_session = re.compile(SESSION).fullmatch
# The decoder has looked at the length of each.
_are_symbols = re.compile(SYMBOL.replace("{1,32}", "*")).fullmatch
_lines_that_are_not_blank = re.compile(rb"[^ \t\r\n][^\n]*").finditer

_NOT_JSON = object()


def decode(*frames: bytes) -> Iterable[Message]:
    """The messages in the frames, in order.

    Each frame stands for itself. They are taken together because valid ones cost less that way. A list if all are
    valid. Otherwise an iterator that reads as it is advanced, in linear time whatever the bytes.
    """
    try:
        return _decode_valid(frames)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return chain.from_iterable(map(_decode_frame, frames))


def _decode_valid(frames: Sequence[bytes]) -> list[Trade | GapFill]:
    """All messages of the frames.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: one of them is invalid.
    """
    together = b"".join(frames)
    # More than a frame may have is read frame by frame, as it is asked for.
    if len(together) > MAX_BYTES:
        raise msgspec.ValidationError(f"more than {MAX_BYTES} bytes")
    # The decoder does not look at the text of fields that it skips.
    if not together.isascii():
        for frame in frames:
            frame.decode()
    try:
        # From senders that do not batch: 10 to 15 % more of them a second.
        messages = list(map(_decode_one, frames))
    except msgspec.DecodeError:
        messages = list(chain.from_iterable(map(_decode_lines, frames)))
    _check(messages)
    return messages


def _check(messages: Sequence[Trade | GapFill]) -> None:
    """Apply the rules that the decoder cannot express, the patterns to distinct values only.

    Raises:
        msgspec.ValidationError: one is broken.
    """
    trades = [message for message in messages if type(message) is Trade]
    tracked = {trade.session for trade in trades if trade.seq}
    untracked = {trade.session for trade in trades if not trade.seq}
    if "" in tracked or any(untracked):
        raise msgspec.ValidationError("session and seq come together or not at all")
    filled = {message.session for message in messages} - untracked if len(trades) < len(messages) else set()
    if not all(map(_is_session, tracked | filled)):
        raise msgspec.ValidationError(f"session must match {SESSION}")
    if not _are_symbols("".join({trade.symbol for trade in trades})):
        raise msgspec.ValidationError(f"symbol must match {SYMBOL}")


def _decode_frame(frame: bytes) -> Iterable[Message]:
    """The messages of one frame. Where not all are valid it is one JSON value, or each line is judged as a frame."""
    if len(frame) > MAX_BYTES:
        return [Rejected("too_large", f"{len(frame)} bytes, at most {MAX_BYTES} are allowed", frame[:_EXCERPT])]
    try:
        return _decode_valid([frame])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The decoder quotes what it met, which may be long.
        detail, is_utf8 = str(error)[:200], not isinstance(error, UnicodeDecodeError)
    value = _parse(frame)
    if value is _NOT_JSON and b"\n" in frame.strip(b" \t\r\n"):
        return chain.from_iterable(_decode_frame(line.group()) for line in _lines_that_are_not_blank(frame))
    reason = _reason(value) if is_utf8 else "not_utf8"
    return [Rejected(reason, detail, frame[:_EXCERPT], *_place(value))]


def _number(digits: str) -> float:
    # int() takes quadratic time, and no more than 4,300 digits.
    return int(digits) if len(digits) <= 20 else float(digits)


_json = json.JSONDecoder(parse_int=_number)


def _parse(frame: bytes) -> Any:
    """The one JSON value that the frame is, or `_NOT_JSON`.

    NaN and 1e999 are values too: they are JSON enough to be told what is wrong with them.
    """
    try:
        return _json.decode(frame.decode(errors="replace"))
    except (json.JSONDecodeError, RecursionError):
        return _NOT_JSON


def _reason(value: Any) -> Reason:
    if value is _NOT_JSON:
        return "not_json"
    if not isinstance(value, dict):
        return "not_object"
    if "type" not in value:
        return "missing_field"
    # In a list: what a sender calls its type may be nothing that a dict can look up.
    if value["type"] not in list(_REQUIRED):
        return "unknown_type"
    required = _REQUIRED[value["type"]]
    # A trade has session and seq both or neither.
    if value["type"] == "trade" and ("session" in value or "seq" in value):
        required += ("session", "seq")
    return "invalid_field" if all(field in value for field in required) else "missing_field"


def _place(value: Any) -> tuple[str, int]:
    """Session and seq of a trade, if both are valid."""
    if isinstance(value, dict) and value.get("type") == "trade":
        session, seq = value.get("session"), value.get("seq")
        if type(seq) is int and 1 <= seq <= MAX_SEQ and isinstance(session, str) and _is_session(session):
            return session, seq
    return "", 0
