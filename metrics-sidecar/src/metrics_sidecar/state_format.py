"""The state file: its tables (format 2), the migration from format 1, and the checksum."""

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

FORMAT = 2

type Row = tuple[Any, ...]

_encode = msgspec.msgpack.Encoder().encode

_CREATE = (
    """CREATE TABLE totals (
    state_id TEXT NOT NULL, age REAL NOT NULL,
    last_trade_ts REAL NOT NULL, tracked INTEGER NOT NULL, lost INTEGER NOT NULL,
    checksum BLOB NOT NULL
) STRICT""",
    """CREATE TABLE series (
    side TEXT NOT NULL, symbol TEXT NOT NULL, created REAL NOT NULL,
    trades INTEGER NOT NULL, volume REAL NOT NULL, notional REAL NOT NULL,
    PRIMARY KEY (side, symbol)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE sessions (
    session TEXT PRIMARY KEY, next_seq INTEGER NOT NULL, moved_at REAL NOT NULL
) STRICT, WITHOUT ROWID""",
    "INSERT INTO totals VALUES (lower(hex(randomblob(16))), 0.0, 0.0, 0, 0, x'')",
    """INSERT INTO series SELECT side, '', (julianday('now') - 2440587.5) * 86400.0, 0, 0.0, 0.0
    FROM (SELECT 'buy' AS side UNION ALL SELECT 'sell')""",
    f"PRAGMA user_version = {FORMAT}",
)
# Format 1 has no state_id, no count of tracked trades, and one series for each side, without a creation time. `lost` is
# a REAL, and `moved_at` is Unix time. It can hold values that the contract no longer allows. They are reset to 0: an
# infinite volume would never change again.
_MIGRATE = (
    "ALTER TABLE totals RENAME TO totals_1",
    "ALTER TABLE sessions RENAME TO sessions_1",
    *_CREATE,
    """UPDATE totals SET
    last_trade_ts = iif(before.last_trade_ts BETWEEN 0 AND 1e11, before.last_trade_ts, 0.0),
    lost = CAST(before.lost AS INTEGER) FROM totals_1 AS before""",
    "UPDATE series SET created = 0.0, trades = trades_buy, volume = volume_buy FROM totals_1 WHERE side = 'buy'",
    "UPDATE series SET created = 0.0, trades = trades_sell, volume = volume_sell FROM totals_1 WHERE side = 'sell'",
    "UPDATE series SET volume = 0.0 WHERE volume NOT BETWEEN 0 AND 1e30",
    "INSERT INTO sessions SELECT session, next_seq, 0.0 FROM sessions_1",
    "DROP TABLE totals_1",
    "DROP TABLE sessions_1",
)


class Content(NamedTuple):
    """The content of all tables. ``series`` and ``sessions`` are lists of rows."""

    totals: Row
    checksum: bytes
    series: list[Row]
    sessions: list[Row]


def bring_to_format(database: sqlite3.Connection, version: int) -> None:
    """Create the tables (``version`` 0), or migrate them from format 1, in one transaction."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        for statement in _MIGRATE if version else _CREATE:
            database.execute(statement)
        seal(database)


def seal(database: sqlite3.Connection) -> None:
    """Compute the checksum of the tables and store it."""
    content = read(database)
    written = checksum(content.totals, digest(content.series) + digest(content.sessions))
    database.execute("UPDATE totals SET checksum = ?", (written,))


def read(database: sqlite3.Connection) -> Content:
    """Read all tables.

    Raises:
        sqlite3.Error: the tables cannot be read.
    """
    totals = database.execute("SELECT state_id, age, last_trade_ts, tracked, lost, checksum FROM totals").fetchall()
    if len(totals) != 1:
        raise sqlite3.DatabaseError(f"{len(totals)} rows in the table totals")
    return Content(
        totals[0][:-1],
        totals[0][-1],
        database.execute("SELECT side, symbol, created, trades, volume, notional FROM series").fetchall(),
        database.execute("SELECT session, next_seq, moved_at FROM sessions").fetchall(),
    )


def digest(rows: Iterable[Row]) -> int:
    """The sum of the rows' hashes. It can be updated for changed rows without reading the others."""
    return sum(int.from_bytes(blake2b(_encode(row), digest_size=8).digest()) for row in rows)


def checksum(totals: Row, others: int) -> bytes:
    """The checksum of the totals and ``others``, the digest of all other rows."""
    return ((digest([totals]) + others) % 2**64).to_bytes(8)
