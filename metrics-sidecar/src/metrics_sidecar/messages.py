"""The wire contract: what a message may be, and why one is rejected.

The contract itself is ``contract/trade.schema.json``; one message is one UTF-8 JSON object in one ZeroMQ frame.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

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

_CONTRACT = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

type _Session = Annotated[str, Field(pattern=SESSION)]
# The number after a trade's own must still fit a signed 64-bit integer.
type _Seq = Annotated[int, Field(ge=1, le=2**63 - 2)]
type _NewSeq = Annotated[int, Field(ge=1, le=2**63 - 1)]


@dataclass(config=_CONTRACT, slots=True)
class Trade:
    """One trade: ``qty`` in units traded, ``ts`` in Unix seconds. ``seq`` is 0 where the trade is not tracked."""

    type: Literal["trade"]
    side: Side
    qty: Annotated[float, Field(ge=0)]
    ts: float
    session: _Session = ""
    seq: _Seq = 0


@dataclass(config=_CONTRACT, slots=True)
class GapFill:
    """The publisher's word that every trade of ``session`` below ``new_seq`` will not come again."""

    type: Literal["gap_fill"]
    session: _Session
    new_seq: _NewSeq


type Message = Trade | GapFill


class Rejected(Exception):
    """A message that breaks the contract. ``reason`` is one of `REASONS`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


_validate = TypeAdapter[Message](Annotated[Message, Field(discriminator="type")]).validator.validate_json


def decode(frames: list[bytes]) -> Message:
    """Read what arrived as one ZeroMQ message.

    Raises:
        Rejected: it is not a message of the contract.
    """
    if len(frames) > 1:
        raise Rejected("multipart", f"{len(frames)} frames, a message is one")
    frame = frames[0]
    if len(frame) > MAX_BYTES:
        raise Rejected("too_large", f"{len(frame)} bytes, at most {MAX_BYTES} are allowed")
    try:
        message: Message = _validate(frame)
    except ValidationError as error:
        raise _rejection(frame, error) from None
    if isinstance(message, Trade) and bool(message.session) != bool(message.seq):
        raise Rejected("missing_field", "session and seq come together or not at all")
    return message


def _rejection(frame: bytes, error: ValidationError) -> Rejected:
    first: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # The tag of the union leads the location; the sender knows only the field.
    field = ".".join(str(part) for part in first["loc"][1:])
    detail = f"{field}: {first['msg']}" if field else first["msg"]
    match first["type"]:
        case "json_invalid":
            return Rejected("not_json" if _is_utf8(frame) else "not_utf8", detail)
        case "dict_type":
            return Rejected("not_object", detail)
        case "union_tag_invalid":
            return Rejected("unknown_type", detail)
        case "union_tag_not_found" | "missing":
            return Rejected("missing_field", detail)
        case _:
            return Rejected("invalid_field", detail)


def _is_utf8(frame: bytes) -> bool:
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True
