"""The outbox of versions before the journal: a SQLite file, read once."""

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec

from trading_app.messages import GapFill, Trade, decode, encode

log = logging.getLogger(__name__)

_SEGMENT_BYTES = 4 << 20


def migrate(source: Path, folder: Path) -> None:
    """Write the trades of a SQLite outbox to segments in ``folder``, each under its session and number.

    A trade that breaks today's contract counts as lost.

    Raises:
        sqlite3.Error: the source is damaged, or not an outbox.
        OSError: there is no room.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as db:
        rows = db.execute("SELECT session, seq, message FROM trades ORDER BY session, seq")
        number = 0
        for session, trades in groupby(rows, key=itemgetter(0)):
            for segment in _segments(session, [(seq, message) for _, seq, message in trades]):
                number += 1
                with (folder / f"{number:012}.journal").open("wb") as file:
                    file.write(segment)
                    file.flush()
                    # The original is deleted next: a power cut must not leave neither.
                    os.fsync(file.fileno())
    log.info("%s: migrated to a folder of segments", source)


def _segments(session: str, trades: list[tuple[int, bytes]]) -> list[bytes]:
    segments = [bytearray()]
    for seq, message in trades:
        line = _line(session, seq, message)
        if len(segments[-1]) + len(line) > _SEGMENT_BYTES:
            segments.append(bytearray())
        segments[-1] += line
    return [bytes(segment) for segment in segments]


def _line(session: str, seq: int, message: bytes) -> bytes:
    try:
        trade = decode(message)
        if isinstance(trade, Trade) and (trade.session, trade.seq) == (session, seq):
            return encode(trade) + b"\n"
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # the gap below tells of it
    log.warning("session %s: trade %d breaks the contract, and counts as lost", session, seq)
    return encode(GapFill(session, seq + 1)) + b"\n"
