"""Where trades are kept until the side-car has committed them."""

import fcntl
import logging
import math
import re
import secrets
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count, groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Literal

from trading_app.messages import Side, Trade, encode, encode_gap_fill

type Status = Literal["waiting", "delivered", "lost"]

log = logging.getLogger(__name__)

# The side-car forgets a session that has been idle for 30 days; its publisher leaves it long before.
_SESSION_IDLE = 86_400.0


class OutboxError(Exception):
    """An outbox file that cannot be used. The message is one line: the file, what is wrong, the way out."""


class OutboxInUse(OutboxError):
    """Another process holds the outbox file."""


class Session:
    """One unbroken sequence of trades.

    ``messages`` are those from ``first_seq`` on; ``send_seq`` is sent next.
    ``gap`` tells that a gap fill goes first. ``moved_at`` is the publisher's note of when the side-car's cursor moved.
    """

    def __init__(self, name: str, first_seq: int = 1, messages: Iterable[bytes] = ()) -> None:
        self.name = name
        self.messages = deque(messages)
        self.first_seq = first_seq
        self.send_seq = first_seq
        self.moved_at = math.inf
        self.gap = False

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def next_seq(self) -> int:
        """The number of the next new trade."""
        return self.first_seq + len(self.messages)

    @property
    def in_flight(self) -> int:
        """Trades sent and not known to be committed."""
        return self.send_seq - self.first_seq

    def drop_oldest(self) -> None:
        """Let go of the oldest trade although nobody has it."""
        if self.send_seq == self.first_seq:
            self.send_seq += 1
            self.gap = True
        # Ctrl-C comes after a call, if it comes: by then all of it is done.
        self.first_seq += 1
        self.messages.popleft()

    def forget(self, next_seq: int) -> int:
        """Let go of the trades below ``next_seq``, which are committed; return how many those were."""
        count = min(max(0, next_seq - self.first_seq), len(self.messages))
        for _ in range(count):
            self.messages.popleft()
        self.first_seq += count
        self.send_seq = max(self.send_seq, self.first_seq)
        return count

    def rewind(self, next_seq: int) -> None:
        """Send everything again, to a side-car that expects ``next_seq``."""
        self.send_seq = self.first_seq
        self.gap = next_seq < self.first_seq

    def due(self, limit: int) -> list[tuple[int, bytes]]:
        """What to send next: the gap fill, if one goes first, and up to ``limit`` trades.

        With each message comes what to hand to `sent` when it is sent.
        """
        gap_fill = [(self.first_seq, encode_gap_fill(self.name, self.first_seq))] if self.gap else []
        end_seq = min(self.send_seq + limit, self.next_seq)
        return gap_fill + [(seq + 1, self.messages[seq - self.first_seq]) for seq in range(self.send_seq, end_seq)]

    def sent(self, upto: int) -> None:
        """Note that everything below ``upto`` has been sent."""
        self.gap = False
        self.send_seq = upto


class MemoryOutbox:
    """Trades in the memory of this process, at most ``capacity`` of them; one more drops the oldest.

    Every outbox numbers its trades in a session of its own, so that no number is ever given twice.
    """

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.capacity = capacity
        self.session = _new_session()
        self._earlier: list[Session] = []
        # What the earlier sessions leave of the capacity.
        self._room = capacity
        self._dropped: list[tuple[str, range]] = []
        self._last_put = math.inf
        self.lost = 0
        # Writes a message to where it outlives the process, if there is such a place.
        self._write: Callable[[Trade, bytes], None] | None = None

    @property
    def sessions(self) -> list[Session]:
        """In the order they are sent in; the last is the one that new trades go to, the others hold some."""
        return [*self._earlier, self.session]

    def __len__(self) -> int:
        return sum(map(len, self.sessions))

    def put(self, side: Side, qty: float, ts: float) -> Trade:
        """Number a trade and hold it.

        Raises:
            OutboxError: it cannot be held, and was not.
        """
        session = self.session
        messages = session.messages
        held = len(messages)
        if not held and ts - self._last_put > _SESSION_IDLE:
            session = self.session = _new_session()
            messages = session.messages
        trade = Trade(side, qty, ts, session.name, session.first_seq + held)
        message = encode(trade)
        if self._write:
            self._write(trade, message)
        messages.append(message)
        self._last_put = ts
        if held >= self._room:
            self._drop_oldest()
        return trade

    def forget(self, session: Session, next_seq: int) -> int:
        """Let go of the trades of ``session`` below ``next_seq``, which are committed; return how many those were."""
        forgotten = session.forget(next_seq)
        if forgotten:
            self._remove(session.name, session.first_seq)
        # An answer may come late, for a session that is gone.
        if session in self._earlier:
            self._room += forgotten
            if not session:
                self._earlier.remove(session)
        return forgotten

    def due(self, limit: int) -> tuple[Session, list[tuple[int, bytes]]] | None:
        """The session whose turn it is to be sent, and what is `due` of it."""
        for session in self.sessions:
            if due := session.due(limit):
                return session, due
        return None

    def status(self, trade: Trade) -> Status:
        """What became of a trade put into this outbox."""
        if any(name == trade.session and trade.seq in seqs for name, seqs in self._dropped):
            return "lost"
        held = any(session.name == trade.session and session.first_seq <= trade.seq for session in self.sessions)
        return "waiting" if held else "delivered"

    def close(self) -> None:
        """Let go of what the outbox keeps its trades in."""

    def _drop_oldest(self) -> None:
        # The last trade of a session stays: its number tells of the gap before it, even after a kill.
        session = next((session for session in self.sessions if len(session) > 1), None)
        if session is None:
            return
        start_seq, end_seq = session.first_seq, session.first_seq + 1
        if self._dropped and self._dropped[-1][0] == session.name and self._dropped[-1][1].stop == start_seq:
            self._dropped[-1] = (session.name, range(self._dropped[-1][1].start, end_seq))
        else:
            self._dropped.append((session.name, range(start_seq, end_seq)))
        if session is not self.session:
            self._room += 1
        self.lost += 1
        session.drop_oldest()
        self._remove(session.name, end_seq)

    def _remove(self, session: str, end_seq: int) -> None:
        """Remove messages below ``end_seq`` from where they outlive the process."""


class FileOutbox(MemoryOutbox):
    """An outbox whose trades outlive the process: each is in a SQLite file before `put` returns.

    What an earlier process left in the file is taken over.

    Args:
        path: the file, made with its folders if missing.
        others: files to empty into this one, unless a process uses them.

    Raises:
        OutboxError: the file is in use by another process, or cannot be used.
    """

    def __init__(self, path: Path, capacity: int = 1_000_000, others: Iterable[Path] = ()) -> None:
        super().__init__(capacity)
        self._write = self._insert
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
        except BlockingIOError:
            raise OutboxInUse(f"{path}: another process uses this outbox. Give each process its own") from None
        except OSError as error:
            raise OutboxError(f"{path}: {error.strerror}. Use a path that this user can write") from None
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            self._lock.close()
            raise OutboxError(f"{path}: {error}. Use a path that this user can write") from None
        try:
            self._prepare()
            for other in others:
                self._empty(other)
            self._load()
        except sqlite3.Error as error:
            self.close()
            raise OutboxError(f"{path}: {error}. Move the file away, or use another path") from None

    def close(self) -> None:
        self._db.close()
        self._lock.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        # What a killed process has committed is there; only a power cut can take it.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS trades (session TEXT, seq INTEGER, message BLOB, PRIMARY KEY (session, seq))"
            " STRICT, WITHOUT ROWID"
        )

    def _empty(self, other: Path) -> None:
        try:
            lock = _lock(other)
        except OSError:  # in use, or not ours
            return
        with lock:
            try:
                self._db.execute("ATTACH ? AS other", (str(other),))
                try:
                    # A crash in between leaves trades in both files: they count once all the same.
                    self._db.execute("INSERT OR IGNORE INTO trades SELECT * FROM other.trades")
                    self._db.execute("PRAGMA main.wal_checkpoint(FULL)")
                    self._db.execute("DELETE FROM other.trades")
                finally:
                    self._db.execute("DETACH other")
            except sqlite3.Error as error:
                log.warning("%s: %s; left as it is", other, error)

    def _load(self) -> None:
        rows = self._db.execute("SELECT session, seq, message FROM trades ORDER BY session, seq").fetchall()
        for name, group in groupby(rows, key=itemgetter(0)):
            held = list(group)
            self._earlier.insert(0, Session(name, held[0][1], (message for _, _, message in held)))
            self._room -= len(held)

    def _insert(self, trade: Trade, message: bytes) -> None:
        try:
            self._db.execute("INSERT OR REPLACE INTO trades VALUES (?, ?, ?)", (trade.session, trade.seq, message))
        except sqlite3.Error as error:
            raise OutboxError(f"{self._path}: {error}. The trade was not sent") from None

    def _remove(self, session: str, end_seq: int) -> None:
        try:
            self._db.execute("DELETE FROM trades WHERE session = ? AND seq < ?", (session, end_seq))
        except sqlite3.Error as error:
            log.warning("%s: %s; delivered trades stay in it until the next try", self._path, error)


def open_outbox(folder: str, name: str) -> MemoryOutbox:
    """The outbox of the program ``name``: a file of its own below ``folder``, or memory where that is empty.

    A second process of the same name gets the file ``name-2``, and so on; what is left in a file that nobody uses any
    more is taken over by the next process.

    Raises:
        OutboxError: the folder cannot be used.
    """
    if not folder:
        return MemoryOutbox()
    for number in count(1):
        try:
            others = [path for path in Path(folder).glob(f"{name}-*") if re.fullmatch(r".*-\d+", path.name)]
            path = Path(folder) / (f"{name}-{number}" if number > 1 else name)
            return FileOutbox(path, others=[other for other in others if other != path])
        except OutboxInUse:
            continue
        except OutboxError as error:
            raise OutboxError(f"WEBAPP_OUTBOX={folder}: {error}") from None
    raise AssertionError("there is always a next number")


def _lock(path: Path) -> IO[str]:
    """Hold the outbox file for this process, until it ends or closes what is returned.

    Raises:
        BlockingIOError: another process holds it.
    """
    lock = path.with_name(f"{path.name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise
    return lock


def _new_session() -> Session:
    return Session(secrets.token_hex(8))
