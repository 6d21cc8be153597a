"""Reads the segments that an earlier process has left in a file."""

import mmap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from trading_app.messages import GapFill, Trade, decode
from trading_app.segment import Segment

# A mapping takes a file descriptor, and a crash loop leaves many small files: those are read into memory.
_MAP_BYTES = 64 << 10


def read_segments(path: Path) -> list[Segment]:
    """The segments in a file, oldest first: one, or several where lines between them are damaged.

    Only the last one has the path, so the file is deleted with the last of them.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    buffer = _buffer(path, data)
    segments: list[Segment] = []
    for start, end, message in _messages(data):
        last = segments[-1] if segments else None
        if isinstance(message, GapFill):
            last = Segment(buffer).begin(message.session, message.new_seq)
            last.start = end
            segments.append(last)
        else:
            if not last or (last.session, last.next_seq) != (message.session, message.seq):
                last = Segment(buffer).begin(message.session, message.seq)
                last.start = start
                segments.append(last)
            last.next_seq += 1
        last.end = end
    if segments:
        segments[-1].path = path
    return segments


def _buffer(path: Path, data: bytes) -> bytearray | mmap.mmap:
    if len(data) <= _MAP_BYTES:
        return bytearray(data)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), len(data))


def _messages(data: bytes) -> Iterator[tuple[int, int, Trade | GapFill]]:
    """Each line that holds a message, with its first byte and the byte after it."""
    start = 0
    for line in data.split(b"\n")[:-1]:
        # A line that a crash has torn is skipped: it leaves a gap in the numbers.
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            yield start, start + len(line) + 1, decode(line)
        start += len(line) + 1
