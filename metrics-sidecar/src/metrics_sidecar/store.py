"""Keeps totals and cursors in SQLite, so that they survive the process."""

import sqlite3
import time
from pathlib import Path

from metrics_sidecar.ledger import Ledger, Totals
from metrics_sidecar.settings import SettingError

SESSION_IDLE = 30 * 86_400.0

_VERSION = 1
_SCHEMA = """
BEGIN;
CREATE TABLE totals (
    trades_buy INTEGER NOT NULL, trades_sell INTEGER NOT NULL,
    volume_buy REAL NOT NULL, volume_sell REAL NOT NULL,
    last_trade_ts REAL NOT NULL, lost REAL NOT NULL
) STRICT;
INSERT INTO totals VALUES (0, 0, 0.0, 0.0, 0.0, 0.0);
CREATE TABLE sessions (
    session TEXT PRIMARY KEY, next_seq INTEGER NOT NULL, moved_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""


class Store:
    """The state file, held exclusively while open.

    Args:
        path: the SQLite file, made with its folders if missing; None keeps the state in memory.

    Raises:
        SettingError: the file cannot be used; the message says why and what to do.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=0, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from None
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from None
        except SettingError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != (_VERSION if tables else 0):
            cause = f"not a state file that this side-car can read (format {version}, this one reads {_VERSION})"
            way_out = "Run the side-car that wrote it, or move it away to start from zero"
            raise SettingError("SIDECAR_STATE", str(self._path), cause, way_out)
        self._db.execute("PRAGMA journal_mode = WAL")
        # A commit then survives the death of the process; the fsync a power cut would need comes at checkpoints.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint = 250")
        if not tables:
            self._db.executescript(_SCHEMA)
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        (rows,) = self._db.execute("SELECT count(*) FROM totals").fetchone()
        if verdict != "ok" or rows != 1:
            raise sqlite3.DatabaseError(f"damaged: {verdict}, {rows} rows of totals")
        # A disk that takes no writes should say so now, not at the first trade.
        self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def _unusable(self, error: sqlite3.Error | OSError) -> SettingError:
        way_out = "Set it to a file this user can write, or to nothing to keep totals in memory"
        cause = " ".join(str(error).split())
        if not isinstance(error, sqlite3.OperationalError | OSError):
            way_out = "Restore it from a backup, or move it away to start from zero"
        elif getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            cause, way_out = "another side-car holds this file", "Stop it, or give each side-car a file of its own"
        return SettingError("SIDECAR_STATE", str(self._path), cause, way_out)

    def load(self) -> Ledger:
        """The ledger as it was last committed."""
        row = self._db.execute("SELECT * FROM totals").fetchone()
        trades_buy, trades_sell, volume_buy, volume_sell, last_trade_ts, lost = row
        totals = Totals(
            {"buy": trades_buy, "sell": trades_sell},
            {"buy": volume_buy, "sell": volume_sell},
            last_trade_ts,
            int(lost),
        )
        return Ledger(totals, dict(self._db.execute("SELECT session, next_seq FROM sessions")))

    def next_seq(self, session: str) -> int:
        """The committed cursor of a session, 1 where there is none."""
        row = self._db.execute("SELECT next_seq FROM sessions WHERE session = ?", (session,)).fetchone()
        return int(row[0]) if row else 1

    def forget_idle(self, ledger: Ledger) -> None:
        """Forget the cursors that have not moved for `SESSION_IDLE` seconds.

        Raises:
            sqlite3.Error: nothing was forgotten.
        """
        with self._db:
            forgotten = self._db.execute(
                "DELETE FROM sessions WHERE moved_at < ? RETURNING session", (time.time() - SESSION_IDLE,)
            ).fetchall()
        for (session,) in forgotten:
            del ledger.next_seq[session]

    def commit(self, ledger: Ledger) -> Totals:
        """Write the ledger's totals and moved cursors in one transaction, and return the totals written.

        Raises:
            sqlite3.Error: nothing was written.
        """
        totals = ledger.totals()
        try:
            self._write(totals, ledger)
        except sqlite3.OperationalError:
            # On a full disk the log cannot grow. Written back into the file, it starts over in the room it has.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._write(totals, ledger)
        ledger.moved.clear()
        return totals

    def _write(self, totals: Totals, ledger: Ledger) -> None:
        moved_at = time.time()
        with self._db:
            self._db.execute(
                "UPDATE totals SET trades_buy = ?, trades_sell = ?, volume_buy = ?, volume_sell = ?,"
                " last_trade_ts = ?, lost = ?",
                (
                    totals.trades["buy"],
                    totals.trades["sell"],
                    totals.volume["buy"],
                    totals.volume["sell"],
                    totals.last_trade_ts,
                    # A gap fill may be of any size that a 64-bit cursor allows.
                    float(totals.lost),
                ),
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)",
                [(session, ledger.next_seq[session], moved_at) for session in ledger.moved],
            )

    def close(self) -> None:
        self._db.close()
