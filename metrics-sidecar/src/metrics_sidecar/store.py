"""Keeps totals and cursors in a SQLite file, so that they survive the process."""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from metrics_sidecar.ledger import Ledger, Totals
from metrics_sidecar.messages import Side
from metrics_sidecar.state_format import FORMAT, Row, bring_to_format, checksum, digest, read
from metrics_sidecar.store_error import StoreError, store_errors
from metrics_sidecar.tallies import MAX_SYMBOLS, Series

SESSION_IDLE = 30 * 86_400.0

_FORGET_INTERVAL = 3600.0
_MAX_INTEGER = 2**63 - 1
_SESSIONS_AMONG = """SELECT session, next_seq, moved_at FROM sessions
    WHERE session IN (SELECT value FROM json_each(?))"""
_FORGET = "DELETE FROM sessions WHERE moved_at < ? RETURNING session, next_seq, moved_at"
_UPSERT_SERIES = """INSERT INTO series VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    created = excluded.created, trades = excluded.trades, volume = excluded.volume, notional = excluded.notional"""
_UPDATE_TOTALS = "UPDATE totals SET state_id = ?, age = ?, last_trade_ts = ?, tracked = ?, lost = ?, checksum = ?"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The committed cursor of a session: all trades below ``next_seq`` are committed. 1 for an unknown session."""

    session: str
    next_seq: int
    state_id: str


class Store:
    """The state file, locked exclusively while open. ``state_id`` is created with the file and never changes.

    The age of a state is the time, in seconds, that sidecars have had it open. A session whose cursor has not moved for
    `SESSION_IDLE` seconds of that age is forgotten. The system clock plays no part in this.

    Args:
        path: the SQLite file. It is created if missing, with its folders. None keeps the state in memory.
        clock: a monotonic clock, in seconds.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        with store_errors():
            if path:
                # SQLite puts its other files beside the file that a link leads to.
                path = path.resolve()
                path.parent.mkdir(parents=True, exist_ok=True)
            # Opened in the main thread, then used by the engine thread only.
            self._db = sqlite3.connect(path or ":memory:", timeout=0, check_same_thread=False)
        self._clock = clock
        self._files: dict[Path, os.stat_result] = {}
        try:
            with store_errors():
                self._prepare()
                if path:
                    self._files = {file: file.stat() for file in (path, Path(f"{path}-wal"))}
        except StoreError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version not in ({1, FORMAT} if tables else {0}):
            raise StoreError(
                f"not a state file that this sidecar can read (format {version}; it reads 1 and {FORMAT})",
                "Run the version that wrote it, or move it away to start from zero",
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        # A commit survives the death of the process. SQLite syncs at checkpoints, for power cuts.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint = 250")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if version != FORMAT:
            bring_to_format(self._db, version)
        # This write fails now, not at the first trade, if the file is not writable.
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        content = read(self._db)
        self._digest = digest(content.series) + digest(content.sessions)
        if content.checksum != checksum(content.totals, self._digest):
            raise sqlite3.DatabaseError("the content does not match its checksum")
        self.state_id, age = content.totals[:2]
        self._series = {(side, symbol): Series(*counted) for side, symbol, *counted in content.series}
        self._born_at = self._clock() - age
        self._forget_age = age + _FORGET_INTERVAL

    def load(self, max_symbols: int = MAX_SYMBOLS) -> Ledger:
        """Load the ledger as last committed. ``max_symbols`` symbols get series of their own.

        Raises:
            StoreError: the file cannot be read.
        """
        with store_errors():
            content = read(self._db)
        _, _, last_trade_ts, tracked, lost = content.totals
        next_seq = {session: next_seq for session, next_seq, _ in content.sessions}
        return Ledger(Totals(self._series, last_trade_ts, tracked, lost), next_seq, max_symbols=max_symbols)

    def cursor(self, session: str) -> Cursor:
        """The committed cursor of a session.

        Raises:
            StoreError: the file cannot be read.
        """
        with store_errors():
            row = self._db.execute("SELECT next_seq FROM sessions WHERE session = ?", (session,)).fetchone()
        return Cursor(session, int(row[0]) if row else 1, self.state_id)

    def require_file(self) -> None:
        """Check that the path still leads to the open file.

        Raises:
            StoreError: the file was removed or replaced.
        """
        for file, opened in self._files.items():
            try:
                is_unchanged = os.path.samestat(file.stat(), opened)
            except OSError:
                is_unchanged = False
            if not is_unchanged:
                remedy = "put it back, or restart from zero"
                raise StoreError(f"the state file {file} was removed or replaced: {remedy}", remedy)

    def commit(self, ledger: Ledger) -> Totals:
        """Write the ledger's totals and moved cursors in one transaction. Returns the totals written.

        Once an hour this also deletes idle sessions, from the file and from the ledger.

        Raises:
            StoreError: nothing was written.
        """
        self.require_file()
        totals = ledger.totals()
        with store_errors():
            try:
                forgotten = self._write(totals, ledger)
            except sqlite3.OperationalError:
                # On a full disk the write-ahead log cannot grow. A checkpoint makes its space reusable.
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                forgotten = self._write(totals, ledger)
        ledger.dirty_sessions.clear()
        for session, *_ in forgotten:
            del ledger.next_seq[session]
        return totals

    def _write(self, totals: Totals, ledger: Ledger) -> list[Row]:
        """Write what changed. Returns the rows of the forgotten sessions."""
        age = self._clock() - self._born_at
        # SQLite stores -0.0 as 0.0, and the checksum must match.
        row = (self.state_id, age, totals.last_trade_ts + 0.0, totals.tracked, min(totals.lost, _MAX_INTEGER))
        sessions = [(session, ledger.next_seq[session], age) for session in ledger.dirty_sessions]
        changed = [key for key, series in totals.series.items() if series != self._series.get(key)]
        counted = _rows(totals.series, changed)
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            before = self._db.execute(_SESSIONS_AMONG, (json.dumps(list(ledger.dirty_sessions)),)).fetchall()
            before += _rows(self._series, self._series.keys() & changed)
            self._db.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", sessions)
            self._db.executemany(_UPSERT_SERIES, counted)
            is_due = age >= self._forget_age
            forgotten = self._db.execute(_FORGET, (age - SESSION_IDLE,)).fetchall() if is_due else []
            # The digest is updated from the changed rows; no other row is read.
            others = (self._digest + digest(sessions + counted) - digest(before + forgotten)) % 2**64
            self._db.execute(_UPDATE_TOTALS, (*row, checksum(row, others)))
        self._digest = others
        self._series = totals.series
        if is_due:
            self._forget_age = age + _FORGET_INTERVAL
        return forgotten

    def close(self) -> None:
        self._db.close()


def _rows(series: Mapping[tuple[Side, str], Series], keys: Iterable[tuple[Side, str]]) -> list[Row]:
    return [(*key, *series[key]) for key in keys]
