"""A run of consecutive trades of one session, as JSON Lines in a buffer."""

import mmap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from trading_app.messages import GapFill, Trade, decode, encode

_SMALL = 64 << 10


class Segment:
    """Encoded trades ``first_seq`` to ``next_seq - 1`` of ``session``, in bytes ``start`` to ``end`` of a buffer.

    A segment without trades stands for a gap: the trades of its session below ``next_seq`` are lost. ``next`` is
    the segment after this one in its journal; ``gone`` says that it is in none any more.

    Args:
        buffer: where the trades are, or will be; a mapped file outlives the process.
        path: the file that is mapped; None for memory.
    """

    __slots__ = ("_buffer", "end", "first_seq", "gone", "next", "next_seq", "path", "session", "start", "view")

    def __init__(self, buffer: bytearray | mmap.mmap, path: Path | None = None) -> None:
        self._buffer = buffer
        self.view = memoryview(buffer)
        self.path = path
        self.start = self.end = 0
        self.session = ""
        self.first_seq = self.next_seq = 1
        self.next: Segment | None = None
        self.gone = False

    def begin(self, session: str, first_seq: int) -> Self:
        """Name what the first trade will be."""
        self.session = session
        self.first_seq = self.next_seq = first_seq
        return self

    @property
    def size(self) -> int:
        """Bytes of the buffer."""
        return len(self._buffer)

    @property
    def trades(self) -> int:
        """How many trades it holds."""
        return self.next_seq - self.first_seq

    def lines(self, start: int, limit: int) -> bytes:
        """Whole lines from byte ``start`` on: as many as ``limit`` bytes hold, at least one."""
        data = self.view[start : min(start + limit, self.end)].tobytes()
        if whole := data.rfind(b"\n") + 1:
            return data[:whole]
        data = self.view[start : self.end].tobytes()
        return data[: data.find(b"\n") + 1]

    def read(self) -> Iterator[Trade]:
        """The trades, decoded."""
        messages = map(decode, self.view[self.start : self.end].tobytes().splitlines())
        return (message for message in messages if isinstance(message, Trade))

    def follows(self, other: "Segment") -> bool:
        """Whether the first trade here is the one after the last trade there."""
        return (self.session, self.first_seq) == (other.session, other.next_seq)

    def empty(self) -> None:
        """Take the trades out. What stays tells of the gap."""
        self.first_seq = self.next_seq
        self.start = self.end

    def close(self) -> None:
        """Release the buffer; the file stays."""
        self.view.release()
        self._buffer = bytearray()


def gap_line(segment: Segment) -> bytes:
    """The line that stands for a segment without trades."""
    return encode(GapFill(segment.session, segment.next_seq)) + b"\n"


def read_segments(path: Path) -> list[Segment]:
    """What a file holds, oldest first: one segment, or several where lines between them are damaged.

    The last of them has the path, so the file can go when the last of them goes.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    buffer: bytearray | mmap.mmap = bytearray(data)
    # A mapping takes a file descriptor: what a crash loop leaves is many files with little in them.
    if len(data) > _SMALL:
        with path.open("r+b") as file:
            buffer = mmap.mmap(file.fileno(), len(data))
    segments: list[Segment] = []
    for start, end, message in _messages(data):
        last = segments[-1] if segments else None
        if isinstance(message, GapFill):
            last = Segment(buffer).begin(message.session, message.new_seq)
            segments.append(last)
        elif not last or (last.session, last.next_seq) != (message.session, message.seq):
            last = Segment(buffer).begin(message.session, message.seq)
            last.start = start
            segments.append(last)
        if isinstance(message, Trade):
            last.next_seq += 1
        else:
            last.start = end
        last.end = end
    if segments:
        segments[-1].path = path
    return segments


def _messages(data: bytes) -> Iterator[tuple[int, int, Trade | GapFill]]:
    """Each line that holds a message, with the bytes it takes."""
    start = 0
    for line in data.split(b"\n")[:-1]:
        # A line that a crash has torn leaves a gap in the numbers.
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            yield start, start + len(line) + 1, decode(line)
        start += len(line) + 1


class Memory:
    """Segments in the memory of this process."""

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
