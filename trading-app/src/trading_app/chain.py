"""The segments of a journal, linked from the oldest to the newest."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from trading_app.outbox_error import OutboxError
from trading_app.segment import Segment


class Storage(Protocol):
    """Where segments are kept: memory, or an outbox."""

    @property
    def fate(self) -> str:
        """What becomes of the trades that are in it when it is closed."""

    def load(self) -> list[Segment]:
        """What is there from earlier processes, oldest first."""

    def create(self, size: int) -> Segment:
        """An empty segment of ``size`` bytes."""

    def remove(self, segment: Segment) -> None:
        """Delete a segment."""

    def keep_gap(self, segment: Segment) -> None:
        """Delete what a segment held before it was emptied, and keep its gap."""

    def disown(self) -> None:
        """In a forked process: leave everything to the parent."""

    def close(self) -> None:
        """Release everything. What was not removed stays."""


class Chain:
    """Segments of ``size`` bytes. Trades go to the ``tail``; ``head`` is the oldest.

    Segments that are removed or emptied leave the storage with the next `tidy`.

    Raises:
        OutboxError: the storage cannot be read.
    """

    def __init__(self, storage: Storage, size: int, session: str) -> None:
        self._storage = storage
        self._size = size
        self._spare: Segment | None = None
        # Files are numbered in the order of the trades: one is made at a time.
        self._making = threading.Lock()
        self._removed: deque[Segment] = deque()
        self._emptied: deque[Segment] = deque()
        try:
            recovered = storage.load()
        except OutboxError:
            storage.close()
            raise
        # Without room on the disk, what is there can be sent all the same.
        self.head = self.tail = Segment(bytearray()).begin(session, 1)
        for segment in reversed(recovered):
            segment.next, self.head = self.head, segment

    def __iter__(self) -> Iterator[Segment]:
        segment: Segment | None = self.head
        while segment:
            yield segment
            segment = segment.next

    @property
    def bytes(self) -> int:
        """What the segments take in the storage."""
        return sum(segment.size for segment in self)

    @property
    def fate(self) -> str:
        """What becomes of the trades that are held at the end."""
        return self._storage.fate

    def roll(self, session: str, first_seq: int) -> None:
        """Begin the next segment.

        Raises:
            OutboxError: there is no room for it.
        """
        with self._making:
            tail = (self._spare or self._storage.create(self._size)).begin(session, first_seq)
            self._spare = None
        self.tail.next = tail
        self.tail = tail

    def remove_head(self) -> None:
        """Remove the oldest segment. The tail cannot be removed."""
        if self.head.next:
            self._discard(self.head)
            self.head = self.head.next

    def cut(self, session: str) -> list[Segment]:
        """Remove all segments of a session but the tail, and return them; their buffers stay until the next `tidy`."""
        kept, removed = [self.tail], list[Segment]()
        for segment in reversed(list(self)[:-1]):
            if segment.session == session:
                removed.insert(0, segment)
                self._discard(segment)
            else:
                segment.next = kept[-1]
                kept.append(segment)
        self.head = kept[-1]
        return removed

    def empty_oldest(self) -> None:
        """Take the trades out of the oldest segment that holds any. What stays in the chain tells of the gap."""
        gap, segment = None, self.oldest
        for earlier in self:
            if earlier.next is segment:
                gap = earlier
        segment.empty()
        if gap and gap.session == segment.session:
            # One gap tells of both.
            gap.begin(gap.session, segment.next_seq)
            gap.next = segment.next
            self._discard(segment)
            segment = gap
        self._emptied.append(segment)

    @property
    def oldest(self) -> Segment:
        """The oldest segment that holds trades, else the tail."""
        return next((segment for segment in self if segment.trades), self.tail)

    def tidy(self) -> None:
        """Do what the file system may take its time for: delete what is gone, prepare the next segment.

        Raises:
            OutboxError: there is no room for the next segment.
        """
        while self._emptied:
            self._storage.keep_gap(self._emptied.popleft())
        while self._removed:
            self._storage.remove(self._removed.popleft())
        with self._making:
            if not self._spare:
                self._spare = self._storage.create(self._size)

    def disown(self) -> None:
        """In a forked process: leave everything to the parent."""
        self._storage.disown()

    def close(self, *, with_tail: bool) -> None:
        """Release the storage; the tail is deleted too where nothing in it is needed any more."""
        self._removed += [segment for segment in (self._spare, self.tail if with_tail else None) if segment]
        self._spare = None
        for segment in self._removed:
            self._storage.remove(segment)
        for segment in self:
            segment.close()
        self._storage.close()

    def _discard(self, segment: Segment) -> None:
        segment.gone = True
        self._removed.append(segment)
