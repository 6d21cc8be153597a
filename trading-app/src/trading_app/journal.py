"""The trades that the sidecar has not committed yet."""

import logging
import os
import threading
import time

from msgspec.structs import replace

from trading_app.chain import Chain, Storage
from trading_app.counts import Counts
from trading_app.losses import Losses, Status
from trading_app.messages import MAX_LINE_BYTES, MAX_SEQ, Side, Trade, encode
from trading_app.outbox_error import OutboxError
from trading_app.segment import SEGMENT_BYTES, Segment

# The sidecar forgets a session that is idle for 30 days. A publisher begins a new one long before.
SESSION_SECONDS = 86_400.0

log = logging.getLogger(__name__)


class Journal:
    """Numbers trades and keeps them until they are committed.

    Any thread may append. One thread sends and reports commits. Every journal begins a new session, so no number is
    used twice, whatever happens to the files.

    Args:
        storage: stores the segments. The journal closes it.
        capacity: the number of trades it holds. A full journal drops its oldest segment, at most an eighth of them.

    Attributes:
        lock: guards the whole journal.
        changed: a condition on the lock, notified when trades are committed or dropped.
        losses: the trades that were dropped.
        refusal: the reason why the journal takes no more trades, else None.
    """

    def __init__(self, storage: Storage, capacity: int) -> None:
        self.capacity = capacity
        self.refusal: str | None = None
        self._make_lock()
        self._segment_trades = max(1, capacity // 8)
        size = min(SEGMENT_BYTES, (self._segment_trades + 1) * MAX_LINE_BYTES)
        self._chain = Chain(storage, size, _new_session())
        self._created = time.time()
        # Trades that this process numbered in sessions before the newest.
        self._numbered_before = 0
        self._committed: dict[str, int] = {}
        self.losses = Losses()
        # Old session: the numbers that moved, and the session in which they are 1, 2, 3, …
        self._renumbered: dict[str, tuple[range, str]] = {}
        self._session_ends = time.time() + SESSION_SECONDS
        with self.lock:
            self._drop_down_to(capacity)
            self._set_roll()

    def append(self, side: Side, qty: float, ts: float, symbol: str | None = None, price: float | None = None) -> Trade:
        """Number a trade and store it.

        Raises:
            OutboxError: the storage has no room for it.
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
            # There is no call between these two lines, so no signal handler can run between them.
            tail.end = end
            tail.next_seq += 1
        return trade

    def commit(self, session: str, next_seq: int) -> bool:
        """Record that the trades of a session below ``next_seq`` are committed. Return whether the cursor moved."""
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
        """Number the pending trades of the newest session again, in a new session.

        This holds the lock throughout. Trades for which there is no room are dropped.

        Raises:
            OutboxError: the storage has no room for a segment.
        """
        with self.lock:
            published = self._published
            old, first_seq = self._chain.tail.session, self.committed(self._chain.tail.session)
            new = _new_session()
            self._roll(new, 1)
            segments = [segment for segment in self._chain.cut(old) if segment.trades]
            trades = [trade for segment in segments for trade in segment.read() if trade.seq >= first_seq]
            self._committed.pop(old, None)
            self._set_roll()
            moved = self._append_again(trades)
            if trades:
                first_seq = trades[0].seq
                self._renumbered[old] = range(first_seq, first_seq + moved), new
            if lost := trades[moved:]:
                # They keep their old numbers: the new session gives its next ones to other trades.
                self.losses.add(old, range(lost[0].seq, lost[-1].seq + 1))
                self.changed.notify_all()
            self._numbered_before += published - self._published

    def tidy(self) -> None:
        """Delete committed segments and create the next one. This waits for the file system.

        Raises:
            OutboxError: the storage has no room for the next segment.
        """
        self._chain.tidy()

    def disown(self, refusal: str) -> None:
        """In a forked process, leave the storage to the parent and refuse trades."""
        self.refusal = refusal
        # Another thread of the parent may have held the lock during the fork.
        self._make_lock()
        self._chain.disown()

    def close(self) -> None:
        """Release the storage. Uncommitted trades stay in it."""
        with self.lock:
            self.refusal = self.refusal or "the publisher is closed"
            self._chain.close(with_tail=self.is_idle)
            if pending := self.pending:
                log.warning("closed with %d trades that the sidecar has not committed; %s", pending, self._chain.fate)

    @property
    def pending(self) -> int:
        """The number of trades not known to be committed."""
        with self.lock:
            return sum(map(self._pending, self._chain))

    @property
    def counts(self) -> Counts:
        """A consistent snapshot of all counts."""
        with self.lock:
            return Counts(self._published, self.losses.count, self.pending, self._chain.bytes, self._created)

    @property
    def head(self) -> Segment:
        """The oldest segment."""
        return self._chain.head

    @property
    def newest(self) -> tuple[str, int]:
        """The session and the number of the next trade."""
        with self.lock:
            return self._chain.tail.session, self._chain.tail.next_seq

    @property
    def is_idle(self) -> bool:
        """Whether no trade is pending."""
        with self.lock:
            tail = self._chain.tail
            return self._chain.head is tail and not self._pending(tail)

    @property
    def ends(self) -> dict[str, int]:
        """For each session in the journal, the number after its last trade. The newest session comes last."""
        with self.lock:
            return {segment.session: segment.next_seq for segment in self._chain}

    def committed(self, session: str) -> int:
        """The number below which all trades of a session are known to be committed; 1 if none is."""
        return self._committed.get(session, 1)

    def is_waiting(self, session: str, first_seq: int, next_seq: int) -> bool:
        """Whether the journal holds an uncommitted trade from ``first_seq`` to ``next_seq - 1``."""
        session, seqs = self._renamed(session, range(first_seq, next_seq))
        first_seq = max(seqs.start, self.committed(session))
        return any(
            max(first_seq, segment.first_seq) < min(seqs.stop, segment.next_seq)
            for segment in self._chain
            if segment.session == session
        )

    def status(self, trade: Trade) -> Status:
        """The status of a trade that this journal has numbered."""
        with self.lock:
            if self.is_waiting(trade.session, trade.seq, trade.seq + 1):
                return "waiting"
            session, seqs = self._renamed(trade.session, range(trade.seq, trade.seq + 1))
            return "lost" if replace(trade, session=session, seq=seqs.start) in self.losses else "delivered"

    def _renamed(self, session: str, seqs: range) -> tuple[str, range]:
        """The session and the numbers that trades have since `renumber`.

        If only some of them moved, the others are committed or lost, and left out.
        """
        while session in self._renumbered:
            moved, new = self._renumbered[session]
            start, stop = max(seqs.start, moved.start), min(seqs.stop, moved.stop)
            if start >= stop:
                break
            session, seqs = new, range(start - moved.start + 1, stop - moved.start + 1)
        return session, seqs

    def _append_again(self, trades: list[Trade]) -> int:
        """Append trades under new numbers. Return for how many there was room."""
        for number, trade in enumerate(trades):
            try:
                self.append(trade.side, trade.qty, trade.ts, trade.symbol, trade.price)
            except OutboxError as error:
                log.error("%s; %d trades are dropped", error, len(trades) - number)  # noqa: TRY400
                return number
        return len(trades)

    def _make_lock(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)

    @property
    def _published(self) -> int:
        """Trades appended by this process, computed from their numbers, so that `append` need not count them."""
        return self._numbered_before + self._chain.tail.next_seq - 1

    def _pending(self, segment: Segment) -> int:
        return max(0, segment.next_seq - max(segment.first_seq, self.committed(segment.session)))

    def _make_room(self, ts: float) -> Segment:
        """Return a tail with room for the next trade."""
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
        """Set the limits at which the next trade needs a new segment: the tail is full, or the journal is."""
        tail = self._chain.tail
        room = max(0, self.capacity - self.pending)
        self._roll_seq = min(tail.first_seq + self._segment_trades, tail.next_seq + room)
        self._roll_end = tail.size - MAX_LINE_BYTES

    def _remove_committed(self) -> None:
        while self.head.next and self.head.next_seq <= self.committed(self.head.session):
            self._chain.remove_head()

    def _drop_down_to(self, pending: int) -> None:
        """Drop the oldest segments until at most ``pending`` trades are pending."""
        while self.pending > pending:
            segment = self._chain.oldest
            self.losses.add(segment.session, range(segment.next_seq - self._pending(segment), segment.next_seq))
            self._chain.empty_oldest()
            self.changed.notify_all()


def _new_session() -> str:
    return os.urandom(8).hex()
