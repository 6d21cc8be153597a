"""Migrates the outbox of versions before the journal, a SQLite file."""

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec

from trading_app.messages import GapFill, Trade, decode, encode
from trading_app.outbox_error import OutboxError
from trading_app.segment import SEGMENT_BYTES

log = logging.getLogger(__name__)


def migrate(source: Path, folder: Path) -> None:
    """Write the trades of a SQLite outbox to segments in ``folder``. Each keeps its session and number.

    A trade that breaks the current contract counts as lost.

    Raises:
        OutboxError: the source is damaged, or not an outbox.
        OSError: the disk has no room.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as db:
            for number, segment in enumerate(_all_segments(db), 1):
                _write(folder / f"{number:012}.journal", segment)
        # The SQLite file is deleted next, so all of this must be on the disk even after a power cut.
        for written in folder, folder.parent:
            _sync(written)
    except sqlite3.Error as error:
        raise OutboxError(f"{source}: {error}. Move the file away, or use another path") from None
    log.info("%s: migrated to a folder of segments", source)


def _all_segments(db: sqlite3.Connection) -> Iterator[bytes]:
    rows = db.execute("SELECT session, seq, message FROM trades ORDER BY session, seq")
    for session, trades in groupby(rows, key=itemgetter(0)):
        yield from _segments(session, [(seq, message) for _, seq, message in trades])


def _write(path: Path, segment: bytes) -> None:
    with path.open("wb") as file:
        file.write(segment)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Write the folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _segments(session: str, trades: list[tuple[int, bytes]]) -> list[bytes]:
    segments = [bytearray()]
    for seq, message in trades:
        line = _line(session, seq, message)
        if len(segments[-1]) + len(line) > SEGMENT_BYTES:
            segments.append(bytearray())
        segments[-1] += line
    return [bytes(segment) for segment in segments]


def _line(session: str, seq: int, message: bytes) -> bytes:
    try:
        trade = decode(message)
        if isinstance(trade, Trade) and (trade.session, trade.seq) == (session, seq):
            return encode(trade) + b"\n"
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    log.warning("session %s: trade %d breaks the contract and counts as lost", session, seq)
    return encode(GapFill(session, seq + 1)) + b"\n"
