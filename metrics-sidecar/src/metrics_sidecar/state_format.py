"""The state file: format 2, the way there from format 1, and its checksum."""

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

FORMAT = 2

type Row = tuple[Any, ...]

_SELECT_TOTALS = """SELECT
    state_id, age, trades_buy, trades_sell, volume_buy, volume_sell, last_trade_ts, tracked, lost, checksum
    FROM totals"""
_CREATE = (
    """CREATE TABLE totals (
    state_id TEXT NOT NULL, age REAL NOT NULL,
    trades_buy INTEGER NOT NULL, trades_sell INTEGER NOT NULL,
    volume_buy REAL NOT NULL, volume_sell REAL NOT NULL,
    last_trade_ts REAL NOT NULL, tracked INTEGER NOT NULL, lost INTEGER NOT NULL,
    checksum BLOB NOT NULL
) STRICT""",
    """CREATE TABLE sessions (
    session TEXT PRIMARY KEY, next_seq INTEGER NOT NULL, moved_at REAL NOT NULL
) STRICT, WITHOUT ROWID""",
    "INSERT INTO totals VALUES (lower(hex(randomblob(16))), 0.0, 0, 0, 0.0, 0.0, 0.0, 0, 0, x'')",
    f"PRAGMA user_version = {FORMAT}",
)
# Format 1 had no state_id, did not count tracked trades, kept lost ones as a REAL, and moved_at was Unix time. It also
# took values beyond what the contract allows today: such a volume, perhaps infinite, would never change again.
_MIGRATE = (
    "ALTER TABLE totals RENAME TO totals_1",
    "ALTER TABLE sessions RENAME TO sessions_1",
    *_CREATE,
    """UPDATE totals SET
    trades_buy = before.trades_buy, trades_sell = before.trades_sell,
    volume_buy = iif(before.volume_buy BETWEEN 0 AND 1e30, before.volume_buy, 0.0),
    volume_sell = iif(before.volume_sell BETWEEN 0 AND 1e30, before.volume_sell, 0.0),
    last_trade_ts = iif(before.last_trade_ts BETWEEN 0 AND 1e11, before.last_trade_ts, 0.0),
    lost = CAST(before.lost AS INTEGER) FROM totals_1 AS before""",
    "INSERT INTO sessions SELECT session, next_seq, 0.0 FROM sessions_1",
    "DROP TABLE totals_1",
    "DROP TABLE sessions_1",
)


def bring_to_format(database: sqlite3.Connection, version: int) -> None:
    """Make the tables, or migrate those of format 1, in one transaction."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        for statement in _MIGRATE if version else _CREATE:
            database.execute(statement)
        seal(database)


def seal(database: sqlite3.Connection) -> None:
    """Write the checksum of what the tables hold."""
    totals, _, sessions = read(database)
    database.execute("UPDATE totals SET checksum = ?", (checksum(totals, digest(sessions)),))


def read(database: sqlite3.Connection) -> tuple[Row, bytes, list[Row]]:
    """The totals, their checksum, and the sessions.

    Raises:
        sqlite3.Error: they are not there.
    """
    rows = database.execute(_SELECT_TOTALS).fetchall()
    if len(rows) != 1:
        raise sqlite3.DatabaseError(f"{len(rows)} rows of totals")
    ((*totals, checksum),) = rows
    return tuple(totals), checksum, database.execute("SELECT session, next_seq, moved_at FROM sessions").fetchall()


def digest(rows: Iterable[Row]) -> int:
    """A sum over the rows: it can be adjusted for some of them, without a look at the others."""
    return sum(int.from_bytes(blake2b(repr(row).encode(), digest_size=8).digest()) for row in rows)


def checksum(totals: Row, sessions: int) -> bytes:
    """Of the totals and the digest of the sessions."""
    return ((digest([totals]) + sessions) % 2**64).to_bytes(8)
