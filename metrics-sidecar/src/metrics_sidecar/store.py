"""Keeps totals and cursors in SQLite, so that they survive the process."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metrics_sidecar.ledger import Ledger, Totals

SESSION_IDLE = 30 * 86_400.0

_FORMAT = 2
_MAX_INTEGER = 2**63 - 1
_CREATE = """
BEGIN;
CREATE TABLE totals (
    state_id TEXT NOT NULL,
    trades_buy INTEGER NOT NULL, trades_sell INTEGER NOT NULL,
    volume_buy REAL NOT NULL, volume_sell REAL NOT NULL,
    last_trade_ts REAL NOT NULL, tracked INTEGER NOT NULL, lost INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES (lower(hex(randomblob(16))), 0, 0, 0.0, 0.0, 0.0, 0, 0);
CREATE TABLE sessions (
    session TEXT PRIMARY KEY, next_seq INTEGER NOT NULL, moved_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
COMMIT;
"""
# Format 1 had no state_id, did not count tracked trades, and kept lost ones as a REAL.
_MIGRATE = """
BEGIN;
ALTER TABLE totals ADD COLUMN state_id TEXT NOT NULL DEFAULT '';
ALTER TABLE totals ADD COLUMN tracked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals RENAME COLUMN lost TO lost_1;
ALTER TABLE totals ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
UPDATE totals SET state_id = lower(hex(randomblob(16))), lost = CAST(lost_1 AS INTEGER);
ALTER TABLE totals DROP COLUMN lost_1;
PRAGMA user_version = 2;
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The number of the trade expected next in a session: all below are committed. 1 for an unknown session."""

    session: str
    next_seq: int
    state_id: str


class StoreError(Exception):
    """The state file cannot be used: why, and what to do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class Store:
    """The state file, held exclusively while open. ``state_id`` is made with the file and stays with it.

    Args:
        path: the SQLite file, made with its folders if missing; None keeps the state in memory.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        with _store_errors():
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
            # Opened in the thread that starts the program, then used by the engine's alone.
            self._db = sqlite3.connect(path or ":memory:", timeout=0, check_same_thread=False)
        try:
            with _store_errors():
                self._prepare()
        except StoreError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version not in ({1, _FORMAT} if tables else {0}):
            raise StoreError(
                f"not a state file that this sidecar can read (format {version}, this one reads 1 and {_FORMAT})",
                "Run the sidecar that wrote it, or move it away to start from zero",
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        # A commit then survives the death of the process; the fsync a power cut would need comes at checkpoints.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint = 250")
        if version != 0:
            self._check()
        if version != _FORMAT:
            self._db.executescript(_MIGRATE if version else _CREATE)
        # A disk that takes no writes should say so now, not at the first trade.
        self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        (self.state_id,) = self._db.execute("SELECT state_id FROM totals").fetchone()

    def _check(self) -> None:
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        (rows,) = self._db.execute("SELECT count(*) FROM totals").fetchone()
        if verdict != "ok" or rows != 1:
            raise sqlite3.DatabaseError(f"damaged: {verdict}, {rows} rows of totals")

    def load(self) -> Ledger:
        """The ledger as it was last committed.

        Raises:
            StoreError: it cannot be read.
        """
        with _store_errors():
            row = self._db.execute(
                "SELECT trades_buy, trades_sell, volume_buy, volume_sell, last_trade_ts, tracked, lost FROM totals"
            ).fetchone()
            next_seq = dict(self._db.execute("SELECT session, next_seq FROM sessions"))
        buys, sells, bought, sold, *rest = row
        return Ledger(Totals({"buy": buys, "sell": sells}, {"buy": bought, "sell": sold}, *rest), next_seq)

    def cursor(self, session: str) -> Cursor:
        """The committed cursor of a session.

        Raises:
            StoreError: it cannot be read.
        """
        with _store_errors():
            row = self._db.execute("SELECT next_seq FROM sessions WHERE session = ?", (session,)).fetchone()
        return Cursor(session, int(row[0]) if row else 1, self.state_id)

    def forget_idle(self, ledger: Ledger) -> None:
        """Forget the cursors that have not moved for `SESSION_IDLE` seconds.

        Raises:
            StoreError: nothing was forgotten.
        """
        with _store_errors(), self._db:
            forgotten = self._db.execute(
                "DELETE FROM sessions WHERE moved_at < ? RETURNING session", (time.time() - SESSION_IDLE,)
            ).fetchall()
        for (session,) in forgotten:
            del ledger.next_seq[session]

    def commit(self, ledger: Ledger) -> Totals:
        """Write the ledger's totals and moved cursors in one transaction, and return the totals written.

        Raises:
            StoreError: nothing was written.
        """
        totals = ledger.totals()
        with _store_errors():
            try:
                self._write(totals, ledger)
            except sqlite3.OperationalError:
                # On a full disk the log cannot grow. Written back into the file, it starts over in the room it has.
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._write(totals, ledger)
        ledger.dirty_sessions.clear()
        return totals

    def _write(self, totals: Totals, ledger: Ledger) -> None:
        trades, volume, moved_at = totals.trades, totals.volume, time.time()
        with self._db:
            self._db.execute(
                "UPDATE totals SET trades_buy = ?, trades_sell = ?, volume_buy = ?, volume_sell = ?,"
                " last_trade_ts = ?, tracked = ?, lost = ?",
                (
                    *(trades["buy"], trades["sell"], volume["buy"], volume["sell"], totals.last_trade_ts),
                    *(totals.tracked, min(totals.lost, _MAX_INTEGER)),
                ),
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)",
                [(session, ledger.next_seq[session], moved_at) for session in ledger.dirty_sessions],
            )

    def close(self) -> None:
        self._db.close()


@contextmanager
def _store_errors() -> Iterator[None]:
    """Turn what SQLite and the file system report into a StoreError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        cause, remedy = " ".join(str(error).split()), "Restore it from a backup, or move it away to start from zero"
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            cause, remedy = "another sidecar holds this file", "Stop it, or give each sidecar a file of its own"
        elif isinstance(error, sqlite3.OperationalError | OSError):
            remedy = "Set it to a file this user can write, or to nothing to keep totals in memory"
        raise StoreError(cause, remedy) from None
