"""The wire contract: what a message may be, and why one is rejected.

The contract itself is ``contract/trade.schema.json``; one message is one UTF-8 JSON object in one ZeroMQ frame.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal, final, get_args

import msgspec
from msgspec import Meta, Struct

MAX_BYTES = 65_536
SESSION = r"^[A-Za-z0-9._-]{1,64}$"

type Side = Literal["buy", "sell"]
type Reason = Literal[
    "multipart",
    "too_large",
    "not_utf8",
    "not_json",
    "not_object",
    "unknown_type",
    "missing_field",
    "invalid_field",
]

SIDES: tuple[Side, ...] = get_args(Side.__value__)
REASONS: tuple[Reason, ...] = get_args(Reason.__value__)


class Trade(Struct, tag_field="type", tag="trade", gc=False):
    """One trade: ``qty`` in units traded, ``ts`` in Unix seconds. ``seq`` is 0 where the trade is not tracked."""

    side: Literal["buy", "sell"]
    qty: Annotated[float, Meta(ge=0)]
    ts: float
    session: Annotated[str, Meta(min_length=1)] = ""
    # The number after a trade's own must still fit a signed 64-bit integer.
    seq: Annotated[int, Meta(ge=1, le=2**63 - 2)] = 0


@final
class GapFill(Struct, tag_field="type", tag="gap_fill", gc=False):
    """The publisher's word that every trade of ``session`` below ``new_seq`` will not come again."""

    session: Annotated[str, Meta(min_length=1)]
    new_seq: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    # It is none of the session's trades.
    seq: ClassVar[int] = 0


type Message = Trade | GapFill


@final
class _TrackedTrade[Session: str](Trade, tag=False, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A trade that is tracked, with no further fields: nothing in its frame is skipped unread."""

    # A tag may be missing where there is nothing to tell apart by it, a field may not.
    type: Literal["trade"]
    session: Session
    seq: Annotated[int, Meta(ge=1, le=2**63 - 2)]


class Rejected(Exception):
    """A message that breaks the contract. ``reason`` is one of `REASONS`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


_decode: Callable[[bytes], Message] = msgspec.json.Decoder(Trade | GapFill).decode
_is_session = re.compile(SESSION).fullmatch
_REQUIRED = {"trade": ("side", "qty", "ts"), "gap_fill": ("session", "new_seq")}


def tracked_decoder(sessions: Iterable[str]) -> Callable[[bytes], Trade]:
    """A decoder of tracked trades of these sessions without further fields; it does not look at the size of the frame.

    At all else it raises msgspec.DecodeError or UnicodeDecodeError, and leaves it to `decode`.
    """
    names = tuple(sessions)
    # Nothing in JSON is an UnsetType: who knows no session takes nothing.
    session: Any = Literal.__getitem__(names) if names else msgspec.UnsetType
    return msgspec.json.Decoder(_TrackedTrade[session]).decode


def decode(frame: bytes) -> Message:
    """Read one frame.

    Raises:
        Rejected: it is not a message of the contract.
    """
    if len(frame) > MAX_BYTES:
        raise Rejected("too_large", f"{len(frame)} bytes, at most {MAX_BYTES} are allowed")
    try:
        # The decoder does not look at the text of fields that it skips.
        frame.decode()
        message = _decode(frame)
    except UnicodeDecodeError as error:
        raise Rejected("not_utf8", str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _rejection(frame, str(error)) from None
    _check_session(message)
    return message


def _check_session(message: Message) -> None:
    if message.session and not _is_session(message.session):
        raise Rejected("invalid_field", f"session: must match {SESSION}")
    if isinstance(message, Trade) and bool(message.session) != bool(message.seq):
        missing = "seq" if message.session else "session"
        raise Rejected("missing_field", f"{missing}: session and seq come together or not at all")


def _rejection(frame: bytes, detail: str) -> Rejected:
    """Why the decoder would not take the frame."""
    try:
        # It takes NaN and 1e999 too: those are JSON enough to be told what is wrong with them.
        value = json.loads(frame.decode(), parse_int=float)
    except (json.JSONDecodeError, RecursionError):
        return Rejected("not_json", detail)
    if not isinstance(value, dict):
        return Rejected("not_object", detail)
    if "type" not in value:
        return Rejected("missing_field", detail)
    # In a list, as what a sender calls its type may be nothing that a dict can look up.
    if value["type"] not in list(_REQUIRED):
        return Rejected("unknown_type", detail)
    missing = [field for field in _REQUIRED[value["type"]] if field not in value]
    return Rejected("missing_field" if missing else "invalid_field", detail)
