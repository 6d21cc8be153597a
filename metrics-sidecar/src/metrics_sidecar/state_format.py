"""The state file: format 2, the way there from format 1, and its checksum."""

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
# Format 1 had no state_id, series by side alone whose birth is not known, did not count tracked trades, kept lost ones
# as a REAL, and moved_at was Unix time. It also took values beyond what the contract allows today: such a volume,
# perhaps infinite, would never change again.
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
    """All that the tables hold. ``series`` and ``sessions`` are rows."""

    totals: Row
    checksum: bytes
    series: list[Row]
    sessions: list[Row]


def bring_to_format(database: sqlite3.Connection, version: int) -> None:
    """Make the tables, or migrate those of format 1, in one transaction."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        for statement in _MIGRATE if version else _CREATE:
            database.execute(statement)
        seal(database)


def seal(database: sqlite3.Connection) -> None:
    """Write the checksum of what the tables hold."""
    content = read(database)
    written = checksum(content.totals, digest(content.series) + digest(content.sessions))
    database.execute("UPDATE totals SET checksum = ?", (written,))


def read(database: sqlite3.Connection) -> Content:
    """What the tables hold.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    totals = database.execute("SELECT state_id, age, last_trade_ts, tracked, lost, checksum FROM totals").fetchall()
    if len(totals) != 1:
        raise sqlite3.DatabaseError(f"{len(totals)} rows of totals")
    return Content(
        totals[0][:-1],
        totals[0][-1],
        database.execute("SELECT side, symbol, created, trades, volume, notional FROM series").fetchall(),
        database.execute("SELECT session, next_seq, moved_at FROM sessions").fetchall(),
    )


def digest(rows: Iterable[Row]) -> int:
    """A sum over the rows: it can be adjusted for some of them, without a look at the others."""
    return sum(int.from_bytes(blake2b(_encode(row), digest_size=8).digest()) for row in rows)


def checksum(totals: Row, others: int) -> bytes:
    """Of the totals, and the digest of all other rows."""
    return ((digest([totals]) + others) % 2**64).to_bytes(8)
