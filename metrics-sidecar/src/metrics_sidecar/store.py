"""Keeps totals and cursors in SQLite, so that they survive the process."""

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
    """The number of the trade expected next in a session: all below are committed. 1 for an unknown session."""

    session: str
    next_seq: int
    state_id: str


class Store:
    """The state file, held exclusively while open. ``state_id`` is made with the file and stays with it.

    The state has an age, in seconds: as long as sidecars have had it open. A session that has not moved for
    `SESSION_IDLE` of it is forgotten, whatever the clock of the machine says.

    Args:
        path: the SQLite file, made with its folders if missing; None keeps the state in memory.
        clock: seconds from any start; they do not jump.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        with store_errors():
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
            # Opened in the thread that starts the program, then used by the engine's alone.
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
                f"not a state file that this sidecar can read (format {version}, this one reads 1 and {FORMAT})",
                "Run the sidecar that wrote it, or move it away to start from zero",
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        # A commit then survives the death of the process; the fsync a power cut would need comes at checkpoints.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint = 250")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if version != FORMAT:
            bring_to_format(self._db, version)
        # A disk that takes no writes should say so now, not at the first trade.
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        content = read(self._db)
        self._digest = digest(content.series) + digest(content.sessions)
        if content.checksum != checksum(content.totals, self._digest):
            raise sqlite3.DatabaseError("what it holds does not match its checksum")
        self.state_id, age = content.totals[:2]
        self._series = {(side, symbol): Series(*counted) for side, symbol, *counted in content.series}
        self._born_at = self._clock() - age
        self._forget_age = age + _FORGET_INTERVAL

    def load(self, max_symbols: int = MAX_SYMBOLS) -> Ledger:
        """The ledger as it was last committed, which gives series of their own to so many symbols.

        Raises:
            StoreError: it cannot be read.
        """
        with store_errors():
            content = read(self._db)
        _, _, last_trade_ts, tracked, lost = content.totals
        next_seq = {session: next_seq for session, next_seq, _ in content.sessions}
        return Ledger(Totals(self._series, last_trade_ts, tracked, lost), next_seq, max_symbols=max_symbols)

    def cursor(self, session: str) -> Cursor:
        """The committed cursor of a session.

        Raises:
            StoreError: it cannot be read.
        """
        with store_errors():
            row = self._db.execute("SELECT next_seq FROM sessions WHERE session = ?", (session,)).fetchone()
        return Cursor(session, int(row[0]) if row else 1, self.state_id)

    def require_file(self) -> None:
        """Look whether the path still leads to the file that is open.

        Raises:
            StoreError: it was removed or replaced.
        """
        for file, opened in self._files.items():
            try:
                is_there = os.path.samestat(file.stat(), opened)
            except OSError:
                is_there = False
            if not is_there:
                remedy = "put it back, or restart to begin from zero"
                raise StoreError(f"the state file {file} is gone: {remedy}", remedy)

    def commit(self, ledger: Ledger) -> Totals:
        """Write the ledger's totals and moved cursors in one transaction, and return the totals written.

        Now and then idle sessions are forgotten with it, in the ledger too.

        Raises:
            StoreError: nothing was written.
        """
        self.require_file()
        totals = ledger.totals()
        with store_errors():
            try:
                forgotten = self._write(totals, ledger)
            except sqlite3.OperationalError:
                # On a full disk the log cannot grow. Written back into the file, it starts over in the room it has.
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                forgotten = self._write(totals, ledger)
        ledger.dirty_sessions.clear()
        for session, *_ in forgotten:
            del ledger.next_seq[session]
        return totals

    def _write(self, totals: Totals, ledger: Ledger) -> list[Row]:
        """Write what changed, and return the sessions that were forgotten."""
        age = self._clock() - self._born_at
        # SQLite keeps -0.0 as 0.0.
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
            forgotten = self._forget_idle(age)
            # However many rows there are, only those that change are read.
            others = (self._digest + digest(sessions + counted) - digest(before + forgotten)) % 2**64
            self._db.execute(_UPDATE_TOTALS, (*row, checksum(row, others)))
        self._digest = others
        self._series = totals.series
        return forgotten

    def _forget_idle(self, age: float) -> list[Row]:
        if age < self._forget_age:
            return []
        self._forget_age = age + _FORGET_INTERVAL
        return self._db.execute(_FORGET, (age - SESSION_IDLE,)).fetchall()

    def close(self) -> None:
        self._db.close()


def _rows(series: Mapping[tuple[Side, str], Series], keys: Iterable[tuple[Side, str]]) -> list[Row]:
    return [(*key, *series[key]) for key in keys]
