"""The frames that are sent and not committed yet, as in a sliding window protocol."""

from collections import deque
from typing import NamedTuple

from trading_app.journal import Journal
from trading_app.messages import GapFill, encode
from trading_app.segment import Segment

FRAME_BYTES = 64 << 10
WINDOW_BYTES = 16 << 20


class ReadPosition(NamedTuple):
    """An offset in a segment, in bytes, and the number of the trade that begins there."""

    segment: Segment
    offset: int
    seq: int


class Frame(NamedTuple):
    """Lines that are sent at once, from ``position`` to before trade ``next_seq`` of ``session``."""

    data: bytes
    session: str
    next_seq: int
    position: ReadPosition


class Window:
    """Reads a journal in frames. For use by the sending thread."""

    _next_to_send: ReadPosition

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._in_flight: deque[Frame] = deque()
        self._bytes = 0
        self._send_from(journal.head)

    @property
    def is_full(self) -> bool:
        """Whether `WINDOW_BYTES` or more are in flight, so that sending pauses."""
        return self._bytes >= WINDOW_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether no frame is in flight."""
        return not self._in_flight

    @property
    def has_unsent(self) -> bool:
        """Whether the journal holds trades that are not sent yet."""
        segment, offset, _ = self._next_to_send
        return offset < segment.end or segment.next is not None

    def next_frame(self, size: int = FRAME_BYTES) -> Frame | None:
        """Return up to ``size`` bytes of one session's trades, a gap fill, or None if there is nothing to send now."""
        with self._journal.lock:
            if self.is_full:
                return None
            segment, _, seq = self._next_to_send
            if segment.gone or seq < segment.first_seq:
                self._send_from(self._journal.head if segment.gone else segment)
            frame = self._gap_fill() or self._trades(size)
        if frame:
            self._in_flight.append(frame)
            self._bytes += len(frame.data)
        return frame

    def acknowledge(self) -> None:
        """Remove the committed frames."""
        while self._in_flight and self._in_flight[0].next_seq <= self._journal.committed(self._in_flight[0].session):
            self._bytes -= len(self._in_flight.popleft().data)

    def rewind(self, session: str, next_seq: int) -> None:
        """Continue with the oldest uncommitted trade. The sidecar expects ``next_seq`` of ``session``."""
        if self._in_flight:
            self._next_to_send = self._in_flight[0].position
        segment, _, seq = self._next_to_send
        expected = max(seq, self._journal.committed(segment.session))
        self._fill_gap = segment.session != session or next_seq < expected
        self._in_flight.clear()
        self._bytes = 0

    def _send_from(self, segment: Segment) -> None:
        self._next_to_send = ReadPosition(segment, segment.start, segment.first_seq)
        # The sidecar may miss earlier trades of the session, so a gap fill goes first.
        self._fill_gap = True

    def _gap_fill(self) -> Frame | None:
        """The gap fill that precedes the next trade, or None."""
        if not self._fill_gap:
            return None
        self._fill_gap = False
        session = self._next_to_send.segment.session
        new_seq = max(self._next_to_send.seq, self._journal.committed(session))
        # No gap can precede the first trade of a session.
        return Frame(encode(GapFill(session, new_seq)), session, new_seq, self._next_to_send) if new_seq > 1 else None

    def _trades(self, size: int) -> Frame | None:
        segment, offset, seq = position = self._next_to_send
        if offset < segment.end:
            data = segment.lines(offset, size)
            next_seq = seq + data.count(b"\n")
            self._next_to_send = ReadPosition(segment, offset + len(data), next_seq)
            return Frame(data, segment.session, next_seq, position)
        if not segment.next:
            return None
        self._send_from(segment.next)
        self._fill_gap = not segment.next.follows(segment)
        return self._gap_fill() or self._trades(size)
