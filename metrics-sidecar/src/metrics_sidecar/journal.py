"""The ledger made durable: what it shows to anyone has been committed first."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from metrics_sidecar.histogram import Histogram
from metrics_sidecar.messages import Message
from metrics_sidecar.store import Store

COMMIT_INTERVAL = 0.05
FORGET_INTERVAL = 3600.0

log = logging.getLogger(__name__)


class Journal:
    """Enters messages in the ledger and commits it to the store.

    The receiving thread takes ``lock`` once a batch, a reader once a question, by `reading`. ``problem`` says why the
    last commit failed; it is empty while commits succeed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uncommitted = False
        self._due = 0.0
        # Not at once: a publisher that was away as long as the side-car still has to ask for its cursor.
        self._forget_at = time.monotonic() + FORGET_INTERVAL
        self.lock = threading.RLock()
        self._turn = threading.Lock()
        self.ledger = store.load()
        self.totals = self.ledger.totals()
        self.commit_seconds = Histogram(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
        self.commit_failures = 0
        self.problem = ""

    def enter(self, messages: Sequence[Message], received_at: float) -> None:
        """Apply messages received at ``received_at`` (Unix seconds) to the ledger."""
        with self.lock:
            self.ledger.apply(messages, received_at)
            self._uncommitted = True

    def next_seq(self, session: str) -> int:
        """The committed cursor of a session, 1 where there is none.

        Raises:
            sqlite3.Error: the state file cannot be read.
        """
        with self.reading():
            return self._store.next_seq(session)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock, once the batch in hand is done."""
        with self._turn, self.lock:
            yield

    def let_readers_pass(self) -> None:
        """Wait for a reader that waits: under load the receiving thread would take the lock again before it wakes."""
        with self._turn:
            pass

    def commit_when_due(self) -> None:
        """Commit if something was entered, and the last commit was `COMMIT_INTERVAL` seconds ago or longer."""
        if self._uncommitted and time.monotonic() >= self._due:
            self.commit()

    def commit(self) -> None:
        """Commit what was entered, if anything was. Where that fails ``problem`` says why, and nothing is forgotten."""
        with self.lock:
            if not self._uncommitted:
                return
            started = time.monotonic()
            self._due = started + COMMIT_INTERVAL
            try:
                self.totals = self._store.commit(self.ledger)
                self._forget_idle(started)
            except sqlite3.Error as error:
                self._failed(error)
                return
            self.commit_seconds.observe([time.monotonic() - started])
            self._uncommitted = False
            if self.problem:
                log.info("committing again")
                self.problem = ""

    def _forget_idle(self, now: float) -> None:
        if now >= self._forget_at:
            self._store.forget_idle(self.ledger)
            self._forget_at = now + FORGET_INTERVAL

    def _failed(self, error: sqlite3.Error) -> None:
        self.commit_failures += 1
        problem = f"cannot commit: {error}"
        if problem != self.problem:
            log.error("%s; receiving stops until it succeeds", problem)
        self.problem = problem

    def close(self) -> None:
        """Commit what is left and release the state file."""
        with self.lock:
            self.commit()
            if self._uncommitted:
                log.error("%s; what was received since is dropped, and comes again where it is tracked", self.problem)
            self._store.close()
