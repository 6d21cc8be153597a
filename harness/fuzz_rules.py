"""Rules for the sidecar's decoder that hold for any frame. `fuzz.py` searches for a frame that breaks one."""

import re
import time
from collections.abc import Sequence

from msgspec import UNSET

from metrics_sidecar.messages import REASONS, SIDES, GapFill, Message, Rejected, Trade, decode

LINE = b'{"type": "trade", "side": "buy", "qty": 1.5, "ts": 1790000000.5, "session": "fuzz", "seq": 7}'
TRADE = Trade(side="buy", qty=1.5, ts=1790000000.5, session="fuzz", seq=7)
# The slowest known frames take a fifth of this time.
SECONDS, SECONDS_PER_BYTE = 0.01, 20e-6
# Growth of time is measured on frames of these sizes, in a quarter of the run. Up to twice the sizes' ratio passes.
SMALL, LARGE, TOLERANCE = 2**16, 2**20, 2.0
STRETCHED_SHARE = 0.25


class DefectError(Exception):
    """The decoder broke a rule on a frame, which the message quotes byte for byte."""

    def __init__(self, rule: str, frame: bytes) -> None:
        super().__init__(f"{rule}, for the frame {frame!r}")


class Clock:
    """Limits the time spent to a share of the time since its creation."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._started = time.monotonic()
        self._spent = 0.0

    def grants(self) -> bool:
        return self._spent <= self._share * (time.monotonic() - self._started)

    def spend(self, seconds: float) -> None:
        self._spent += seconds


def check(frame: bytes, stretching: Clock) -> None:
    """Decode a frame, and while ``stretching`` grants it, long frames that repeat this one.

    Raises:
        DefectError: a rule of the contract is broken.
    """
    whole = read(frame, frame)
    for message in whole:
        if not is_within_bounds(message):
            raise DefectError(f"{message} is outside the contract", frame)
    check_neighbours(frame, whole)
    check_lines(frame, whole)
    if shortest(frame) > SECONDS + SECONDS_PER_BYTE * len(frame):
        raise DefectError("reading takes too long", frame)
    if frame and stretching.grants():
        started = time.monotonic()
        check_growth(frame)
        stretching.spend(time.monotonic() - started)


def read(frame: bytes, *frames: bytes) -> list[Message]:
    """The messages in the frames; ``frame`` is the one that an error reports."""
    try:
        return list(decode(*frames))
    except Exception as error:
        raise DefectError(f"decode raises {error!r}", frame) from error


def check_neighbours(frame: bytes, whole: list[Message]) -> None:
    """Frames before or after a frame make no difference."""
    if read(frame, LINE, frame, LINE) != [TRADE, *whole, TRADE]:
        raise DefectError("other frames make a difference", frame)
    if read(frame, frame + b"\n" + LINE)[-1:] != [TRADE]:
        raise DefectError("a valid line at the end does not count", frame)


def check_lines(frame: bytes, whole: list[Message]) -> None:
    """Each line is read alone, unless the frame is a run of valid objects, or one value, that line breaks split."""
    lines = [line for line in frame.split(b"\n") if line.strip(b" \t\r")]
    alone = [message for line in lines for message in read(frame, line)]
    if outcome(whole) == outcome(alone):
        return
    is_broken_up = any(
        isinstance(message, Rejected) and message.reason in {"not_json", "not_utf8"} for message in alone
    )
    is_valid = not any(isinstance(message, Rejected) for message in whole)
    if not is_broken_up or not (is_valid or len(whole) == 1):
        raise DefectError(f"lines alone are {outcome(alone)}, together {outcome(whole)}", frame)


def outcome(messages: Sequence[Message]) -> list[object]:
    """The messages to compare, without the wording of rejections."""
    return [
        (message.reason, message.session, message.seq) if isinstance(message, Rejected) else message
        for message in messages
    ]


def check_growth(frame: bytes) -> None:
    """Frames that repeat this one take time proportional to their size."""
    for part in frame, frame + b"\n":
        small, large = (part * (size // len(part)) for size in (SMALL, LARGE))
        if shortest(large) > 10 * SECONDS + TOLERANCE * LARGE / SMALL * shortest(small):
            raise DefectError("time grows faster than the size, if it is repeated", part)


def shortest(frame: bytes) -> float:
    """The shortest of three measurements: other processes make some longer."""
    return min(seconds(frame) for _ in range(3))


def seconds(frame: bytes) -> float:
    """The processor time of decoding the frame."""
    started = time.thread_time()
    read(frame, frame)
    return time.thread_time() - started


def is_within_bounds(message: object) -> bool:
    match message:
        case Trade(side, qty, ts, session, seq, symbol, price):
            amounts = (qty, 1e12), (ts, 1e11), (0.0 if price is UNSET else price, 1e12)
            return (
                side in SIDES
                and all(type(amount) is float and 0 <= amount <= most for amount, most in amounts)
                and is_place(session, seq, 10**12)
                and (symbol == "" or is_name(symbol, r"[A-Za-z0-9._:/-]{1,32}"))
            )
        case GapFill(session, new_seq):
            return session != "" and is_place(session, new_seq, 10**12 + 1)
        case Rejected(reason, detail, start, session, seq):
            return reason in REASONS and detail != "" and len(start) <= 80 and is_place(session, seq, 10**12)
    return False


def is_place(session: object, seq: object, most: int) -> bool:
    """A session with a sequence number, or neither."""
    if (session, seq) == ("", 0):
        return True
    return type(seq) is int and 1 <= seq <= most and is_name(session, r"[A-Za-z0-9._-]{1,64}")


def is_name(name: object, pattern: str) -> bool:
    return isinstance(name, str) and re.fullmatch(pattern, name) is not None
