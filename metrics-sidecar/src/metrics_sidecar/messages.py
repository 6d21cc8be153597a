"""The wire contract: decodes frames into messages and gives the reason for each rejection.

``contract/trade.schema.json`` defines the contract. A frame is UTF-8 text with any number of JSON objects, one for each
message. Whether a message is valid depends on its frame alone.
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

    An untracked trade has ``session`` "" and ``seq`` 0. Without a symbol ``symbol`` is "", without a price ``price`` is
    UNSET.
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
    """All trades of ``session`` below ``new_seq`` that are not counted yet are lost."""

    session: Annotated[str, Meta(min_length=1, max_length=64)]
    new_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ + 1)]


@final
class Rejected(Struct, gc=False):
    """A message that breaks the contract. ``start`` holds its first bytes.

    ``session`` and ``seq`` are set if the message is a trade and both are valid. Otherwise they are "" and 0.
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
# The decoder has checked the lengths.
_are_symbols = re.compile(SYMBOL.replace("{1,32}", "*")).fullmatch
_lines_that_are_not_blank = re.compile(rb"[^ \t\r\n][^\n]*").finditer

_NOT_JSON = object()


def decode(*frames: bytes) -> Iterable[Message]:
    """Decode the messages in the frames, in order.

    Frames are independent of each other; decoding valid frames together is only cheaper. Returns a list if all messages
    are valid. Otherwise returns an iterator that decodes as it is advanced. Decoding takes linear time for any input.
    """
    try:
        return _decode_valid(frames)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return chain.from_iterable(map(_decode_frame, frames))


def _decode_valid(frames: Sequence[bytes]) -> list[Trade | GapFill]:
    """Decode frames whose messages are all valid.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: a message is invalid.
    """
    together = b"".join(frames)
    # Larger input is decoded frame by frame, as the caller advances.
    if len(together) > MAX_BYTES:
        raise msgspec.ValidationError(f"more than {MAX_BYTES} bytes")
    # The decoder does not check the encoding of fields it skips.
    if not together.isascii():
        for frame in frames:
            frame.decode()
    try:
        # One message in each frame: this path raises throughput by 10 to 15 % for senders that do not batch.
        messages = list(map(_decode_one, frames))
    except msgspec.DecodeError:
        messages = list(chain.from_iterable(map(_decode_lines, frames)))
    _check(messages)
    return messages


def _check(messages: Sequence[Trade | GapFill]) -> None:
    """Check the rules that the decoder cannot express. Patterns are matched once for each distinct value.

    Raises:
        msgspec.ValidationError: a message breaks a rule.
    """
    trades = [message for message in messages if type(message) is Trade]
    tracked = {trade.session for trade in trades if trade.seq}
    untracked = {trade.session for trade in trades if not trade.seq}
    if "" in tracked or any(untracked):
        raise msgspec.ValidationError("session and seq require each other")
    filled = {message.session for message in messages} - untracked if len(trades) < len(messages) else set()
    if not all(map(_is_session, tracked | filled)):
        raise msgspec.ValidationError(f"session must match {SESSION}")
    if not _are_symbols("".join({trade.symbol for trade in trades})):
        raise msgspec.ValidationError(f"symbol must match {SYMBOL}")


def _decode_frame(frame: bytes) -> Iterable[Message]:
    """Decode one frame. If not all of it is valid and it is not a single JSON value, decode each line by itself."""
    if len(frame) > MAX_BYTES:
        return [Rejected("too_large", f"{len(frame)} bytes, the limit is {MAX_BYTES}", frame[:_EXCERPT])]
    try:
        return _decode_valid([frame])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The decoder quotes the input, which may be long.
        detail, is_utf8 = str(error)[:200], not isinstance(error, UnicodeDecodeError)
    value = _parse(frame)
    if value is _NOT_JSON and b"\n" in frame.strip(b" \t\r\n"):
        return chain.from_iterable(_decode_frame(line.group()) for line in _lines_that_are_not_blank(frame))
    reason = _reason(value) if is_utf8 else "not_utf8"
    return [Rejected(reason, detail, frame[:_EXCERPT], *_position(value))]


def _number(digits: str) -> float:
    # int() takes quadratic time and refuses more than 4,300 digits.
    return int(digits) if len(digits) <= 20 else float(digits)


_json = json.JSONDecoder(parse_int=_number)


def _parse(frame: bytes) -> Any:
    """Parse the frame as a single JSON value, or return `_NOT_JSON`.

    NaN and 1e999 are accepted, so that the rejection can name the invalid field.
    """
    try:
        return _json.decode(frame.decode(errors="replace"))
    except (json.JSONDecodeError, RecursionError):
        return _NOT_JSON


def _reason(value: Any) -> Reason:
    """Why the contract rejects a parsed value."""
    if value is _NOT_JSON:
        return "not_json"
    if not isinstance(value, dict):
        return "not_object"
    if "type" not in value:
        return "missing_field"
    # A list, because the value may be unhashable.
    if value["type"] not in list(_REQUIRED):
        return "unknown_type"
    required = _REQUIRED[value["type"]]
    # A trade has both session and seq, or neither.
    if value["type"] == "trade" and ("session" in value or "seq" in value):
        required += ("session", "seq")
    return "invalid_field" if all(field in value for field in required) else "missing_field"


def _position(value: Any) -> tuple[str, int]:
    """Session and seq of a trade if both are valid, else "" and 0."""
    if isinstance(value, dict) and value.get("type") == "trade":
        session, seq = value.get("session"), value.get("seq")
        if type(seq) is int and 1 <= seq <= MAX_SEQ and isinstance(session, str) and _is_session(session):
            return session, seq
    return "", 0
