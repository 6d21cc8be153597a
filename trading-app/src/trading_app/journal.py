"""The trades that the sidecar has not committed yet."""

import logging
import os
import threading
import time

from trading_app.chain import Chain, Storage
from trading_app.counts import Counts
from trading_app.losses import Losses, Status
from trading_app.messages import MAX_LINE_BYTES, MAX_SEQ, Side, Trade, encode
from trading_app.outbox_error import OutboxError
from trading_app.segment import Segment

SEGMENT_BYTES = 4 << 20
# The sidecar forgets a session that has been idle for 30 days. A publisher leaves it long before.
SESSION_SECONDS = 86_400.0

log = logging.getLogger(__name__)


class Journal:
    """Numbers trades and keeps them until they are committed.

    Any thread appends; one thread sends, and says what is committed. Every journal begins a new session, so no number
    is given twice, whatever happens to the files.

    Args:
        storage: where trades are kept. The journal closes it.
        capacity: how many trades it holds. A full journal drops its oldest segment, an eighth of that or less.

    Attributes:
        lock: guards everything.
        changed: on the lock; notified when trades are committed.
        losses: the trades that were dropped.
        refusal: why nothing can be appended any more.
    """

    def __init__(self, storage: Storage, capacity: int) -> None:
        self.capacity = capacity
        self.refusal: str | None = None
        self._make_lock()
        self._segment_trades = max(1, capacity // 8)
        size = min(SEGMENT_BYTES, (self._segment_trades + 1) * MAX_LINE_BYTES)
        self._chain = Chain(storage, size, _new_session())
        self._created = time.time()
        # Trades numbered in this process's sessions before the newest.
        self._numbered_before = 0
        self._committed: dict[str, int] = {}
        self.losses = Losses()
        # Old name, first number: new name.
        self._renumbered: dict[str, tuple[int, str]] = {}
        self._session_ends = time.time() + SESSION_SECONDS
        with self.lock:
            self._drop_down_to(capacity)
            self._set_roll()

    def append(self, side: Side, qty: float, ts: float, symbol: str | None = None, price: float | None = None) -> Trade:
        """Number a trade and keep it.

        Raises:
            OutboxError: there is no room for it.
            RuntimeError: the journal is closed, or belongs to another process.
        """
        with self.lock:
            if self.refusal:
                raise RuntimeError(self.refusal)
            tail = self._chain.tail
            if tail.next_seq >= self._roll_seq or tail.end > self._roll_end or ts >= self._session_ends:
                tail = self._make_room(ts)
            trade = Trade(side, qty, ts, tail.session, tail.next_seq, symbol, price)
            line = encode(trade) + b"\n"
            end = tail.end + len(line)
            tail.view[tail.end : end] = line
            # Nothing is called between these two, so no signal handler can come between them.
            tail.end = end
            tail.next_seq += 1
        return trade

    def commit(self, session: str, next_seq: int) -> bool:
        """Note that the sidecar has committed the trades of a session below ``next_seq``; tell whether that is news."""
        with self.lock:
            next_seq = min(next_seq, self.ends.get(session, 1))
            if next_seq <= self.committed(session):
                return False
            self._committed[session] = next_seq
            self._session_ends = time.time() + SESSION_SECONDS
            self._remove_committed()
            self._set_roll()
            self.changed.notify_all()
            return True

    def renumber(self) -> None:
        """Number what is pending of the newest session again, in a new one.

        It takes the lock for as long as that takes. Where there is no room for all, the rest is dropped.

        Raises:
            OutboxError: there is no room for any.
        """
        with self.lock:
            published = self._published
            old, first_seq = self._chain.tail.session, self.committed(self._chain.tail.session)
            self._roll(_new_session(), 1)
            segments = [segment for segment in self._chain.cut(old) if segment.trades]
            trades = [trade for segment in segments for trade in segment.read() if trade.seq >= first_seq]
            self._renumbered[old] = trades[0].seq if trades else first_seq, self._chain.tail.session
            self._committed.pop(old, None)
            for number, trade in enumerate(trades):
                try:
                    self.append(trade.side, trade.qty, trade.ts, trade.symbol, trade.price)
                except OutboxError as error:
                    self.losses.add(old, range(trade.seq, trades[-1].seq + 1))
                    log.error("%s; %d trades are dropped", error, len(trades) - number)  # noqa: TRY400
                    break
            self._numbered_before += published - self._published
            self._set_roll()

    def tidy(self) -> None:
        """Delete what is committed, and prepare the next segment. The file system may take its time.

        Raises:
            OutboxError: there is no room for the next segment.
        """
        self._chain.tidy()

    def disown(self, refusal: str) -> None:
        """In a forked process: leave the storage to the parent, and refuse trades."""
        self.refusal = refusal
        # Another thread of the parent may have held it.
        self._make_lock()
        self._chain.disown()

    def close(self) -> None:
        """Release the storage, where what is not committed stays."""
        with self.lock:
            self.refusal = self.refusal or "the publisher is closed"
            self._chain.close(with_tail=self.is_idle)
            if pending := self.pending:
                log.warning("closed with %d trades that the sidecar has not committed; %s", pending, self._chain.fate)

    @property
    def pending(self) -> int:
        """Trades not known to be committed."""
        with self.lock:
            return sum(map(self._pending, self._chain))

    @property
    def counts(self) -> Counts:
        """All numbers of one instant."""
        with self.lock:
            return Counts(self._published, self.losses.count, self.pending, self._chain.bytes, self._created)

    @property
    def head(self) -> Segment:
        """The oldest segment."""
        return self._chain.head

    @property
    def newest(self) -> tuple[str, int]:
        """The session that new trades go to, and the number of the next."""
        with self.lock:
            return self._chain.tail.session, self._chain.tail.next_seq

    @property
    def is_idle(self) -> bool:
        """Whether everything is committed."""
        return self._chain.head is self._chain.tail and not self._pending(self._chain.tail)

    @property
    def ends(self) -> dict[str, int]:
        """For each session held the number after its last trade; new trades go to the last session."""
        with self.lock:
            return {segment.session: segment.next_seq for segment in self._chain}

    def committed(self, session: str) -> int:
        """The number below which all trades of a session are known to be committed."""
        return self._committed.get(session, 1)

    def is_waiting(self, session: str, first_seq: int, next_seq: int) -> bool:
        """Whether one of the trades from ``first_seq`` to before ``next_seq`` is held and not known to be committed."""
        first_seq = max(first_seq, self.committed(session))
        if session in self._renumbered:
            start, session = self._renumbered[session]
            return self.is_waiting(session, max(first_seq - start, 0) + 1, next_seq - start + 1)
        return any(
            max(first_seq, segment.first_seq) < min(next_seq, segment.next_seq)
            for segment in self._chain
            if segment.session == session
        )

    def status(self, trade: Trade) -> Status:
        """What became of a trade of this journal."""
        with self.lock:
            if self.is_waiting(trade.session, trade.seq, trade.seq + 1):
                return "waiting"
            return "lost" if trade in self.losses else "delivered"

    def _make_lock(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)

    @property
    def _published(self) -> int:
        """Trades appended by this process. The numbers tell: to count costs `append` nothing."""
        return self._numbered_before + self._chain.tail.next_seq - 1

    def _pending(self, segment: Segment) -> int:
        return max(0, segment.next_seq - max(segment.first_seq, self.committed(segment.session)))

    def _make_room(self, ts: float) -> Segment:
        """The segment that the next trade goes to, with room for it."""
        tail = self._chain.tail
        if ts >= self._session_ends or tail.next_seq + self._segment_trades > MAX_SEQ:
            self._roll(_new_session(), 1)
            self._session_ends = ts + SESSION_SECONDS
        elif tail.trades >= self._segment_trades or tail.end > tail.size - MAX_LINE_BYTES:
            self._roll(tail.session, tail.next_seq)
        self._drop_down_to(self.capacity - 1)
        self._set_roll()
        return self._chain.tail

    def _roll(self, session: str, first_seq: int) -> None:
        next_seq = self._chain.tail.next_seq
        self._chain.roll(session, first_seq)
        self._numbered_before += next_seq - first_seq
        self._remove_committed()

    def _set_roll(self) -> None:
        """Note where the tail ends: when it is full, or the journal is."""
        tail = self._chain.tail
        room = max(0, self.capacity - self.pending)
        self._roll_seq = min(tail.first_seq + self._segment_trades, tail.next_seq + room)
        self._roll_end = tail.size - MAX_LINE_BYTES

    def _remove_committed(self) -> None:
        while self.head.next and self.head.next_seq <= self.committed(self.head.session):
            self._chain.remove_head()

    def _drop_down_to(self, pending: int) -> None:
        """Drop the oldest segments until so many trades wait, or fewer."""
        while self.pending > pending:
            segment = self._chain.oldest
            self.losses.add(segment.session, range(segment.next_seq - self._pending(segment), segment.next_seq))
            self._chain.empty_oldest()
            self.changed.notify_all()


def _new_session() -> str:
    return os.urandom(8).hex()
