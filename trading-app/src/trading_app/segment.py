"""A run of consecutive trades of one session, as JSON Lines in a buffer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from trading_app.messages import GapFill, Trade, decode, encode

if TYPE_CHECKING:
    # Neither is used without an outbox, and pathlib takes long to import.
    import mmap
    from pathlib import Path


# The size of a segment, unless the capacity is small.
SEGMENT_BYTES = 4 << 20


class Segment:
    """Encoded trades ``first_seq`` to ``next_seq - 1`` of ``session``, in bytes ``start`` to ``end`` of a buffer.

    A segment without trades stands for a gap: the trades of its session below ``next_seq`` are lost. ``next`` is the
    next segment of the journal. ``gone`` is true once the segment has left the journal.

    Args:
        buffer: the bytes that hold the trades. A mapped file outlives the process.
        path: the mapped file, or None for memory.
    """

    __slots__ = ("_buffer", "end", "first_seq", "gone", "next", "next_seq", "path", "session", "start", "view")

    def __init__(self, buffer: "bytearray | mmap.mmap", path: "Path | None" = None) -> None:
        self._buffer = buffer
        self.view = memoryview(buffer)
        self.path = path
        self.start = self.end = 0
        self.session = ""
        self.first_seq = self.next_seq = 1
        self.next: Segment | None = None
        self.gone = False

    def begin(self, session: str, first_seq: int) -> Self:
        """Set the session and the number of the first trade."""
        self.session = session
        self.first_seq = self.next_seq = first_seq
        return self

    @property
    def size(self) -> int:
        """The size of the buffer in bytes."""
        return len(self._buffer)

    @property
    def trades(self) -> int:
        """The number of trades."""
        return self.next_seq - self.first_seq

    def lines(self, start: int, limit: int) -> bytes:
        """Whole lines from byte ``start`` on: as many as fit into ``limit`` bytes, at least one."""
        data = self.view[start : min(start + limit, self.end)].tobytes()
        if whole := data.rfind(b"\n") + 1:
            return data[:whole]
        data = self.view[start : self.end].tobytes()
        return data[: data.find(b"\n") + 1]

    def read(self) -> Iterator[Trade]:
        """The decoded trades."""
        messages = map(decode, self.view[self.start : self.end].tobytes().splitlines())
        return (message for message in messages if isinstance(message, Trade))

    def follows(self, other: "Segment") -> bool:
        """Whether the first trade of this segment comes right after the last trade of the other."""
        return (self.session, self.first_seq) == (other.session, other.next_seq)

    def empty(self) -> None:
        """Remove the trades; the segment then stands for the gap."""
        self.first_seq = self.next_seq
        self.start = self.end

    def close(self) -> None:
        """Release the buffer. The file stays."""
        self.view.release()
        self._buffer = bytearray()


def gap_line(segment: Segment) -> bytes:
    """The line that stores a segment without trades."""
    return encode(GapFill(segment.session, segment.next_seq)) + b"\n"


class Memory:
    """Stores segments in the memory of this process."""

    def load(self) -> list[Segment]:
        return []

    def create(self, size: int) -> Segment:
        return Segment(bytearray(size))

    def remove(self, segment: Segment) -> None:
        segment.close()

    def keep_gap(self, segment: Segment) -> None:
        segment.close()

    def disown(self) -> None:
        """A forked process has memory of its own."""

    def close(self) -> None:
        """There is nothing to release."""

    @property
    def fate(self) -> str:
        return "they are lost"
