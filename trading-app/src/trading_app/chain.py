"""The segments of a journal, linked from the oldest to the newest."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from trading_app.outbox_error import OutboxError
from trading_app.segment import Segment


class Storage(Protocol):
    """Stores segments, in memory or in an outbox."""

    @property
    def fate(self) -> str:
        """What happens to the trades that it holds when it is closed, as the end of a log line."""

    def load(self) -> list[Segment]:
        """Return the segments that earlier processes left, oldest first."""

    def create(self, size: int) -> Segment:
        """Return an empty segment of ``size`` bytes."""

    def remove(self, segment: Segment) -> None:
        """Delete a segment."""

    def keep_gap(self, segment: Segment) -> None:
        """Delete the trades of an emptied segment and store its gap."""

    def disown(self) -> None:
        """In a forked process, leave the storage to the parent."""

    def close(self) -> None:
        """Release the storage. Segments that were not removed stay."""


class Chain:
    """Segments of ``size`` bytes. Trades go to the ``tail``; ``head`` is the oldest.

    `tidy` deletes removed and emptied segments from the storage.

    Raises:
        OutboxError: the storage cannot be read.
    """

    def __init__(self, storage: Storage, size: int, session: str) -> None:
        self._storage = storage
        self._size = size
        self._spare: Segment | None = None
        # Files are numbered in the order of their trades, so only one thread at a time creates one.
        self._making = threading.Lock()
        self._removed: deque[Segment] = deque()
        self._emptied: deque[Segment] = deque()
        try:
            recovered = storage.load()
        except OutboxError:
            storage.close()
            raise
        # The first tail has no room, so a full disk does not keep the recovered trades from being sent.
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
        """The size of all segments."""
        return sum(segment.size for segment in self)

    @property
    def fate(self) -> str:
        """What happens to the trades that the chain holds when it is closed."""
        return self._storage.fate

    def roll(self, session: str, first_seq: int) -> None:
        """Append an empty segment.

        Raises:
            OutboxError: the storage has no room for it.
        """
        with self._making:
            tail = (self._spare or self._storage.create(self._size)).begin(session, first_seq)
            self._spare = None
        self.tail.next = tail
        self.tail = tail

    def remove_head(self) -> None:
        """Remove the oldest segment, unless it is the tail."""
        if self.head.next:
            self._discard(self.head)
            self.head = self.head.next

    def cut(self, session: str) -> list[Segment]:
        """Remove all segments of a session except the tail, and return them. They can be read until the next `tidy`."""
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
        """Drop the trades of the oldest segment that holds any. The empty segment stands for the gap."""
        gap, segment = None, self.oldest
        for earlier in self:
            if earlier.next is segment:
                gap = earlier
        segment.empty()
        if gap and gap.session == segment.session:
            # One gap stands for both.
            gap.begin(gap.session, segment.next_seq)
            gap.next = segment.next
            self._discard(segment)
            segment = gap
        self._emptied.append(segment)

    @property
    def oldest(self) -> Segment:
        """The oldest segment that holds trades; the tail if none does."""
        return next((segment for segment in self if segment.trades), self.tail)

    def tidy(self) -> None:
        """Delete removed segments and create the next one. This waits for the file system.

        Raises:
            OutboxError: the storage has no room for the next segment.
        """
        while self._emptied:
            self._storage.keep_gap(self._emptied.popleft())
        while self._removed:
            self._storage.remove(self._removed.popleft())
        with self._making:
            if not self._spare:
                self._spare = self._storage.create(self._size)

    def disown(self) -> None:
        """In a forked process, leave the storage to the parent."""
        self._storage.disown()

    def close(self, *, with_tail: bool) -> None:
        """Release the storage, and delete the tail first if nothing in it is needed any more."""
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
