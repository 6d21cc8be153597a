"""When the ledger is committed, and what became of that."""

import logging
import time

from metrics_sidecar.histogram import Histogram
from metrics_sidecar.ledger import Ledger
from metrics_sidecar.store import Store
from metrics_sidecar.store_error import StoreError

_INTERVAL = 0.05
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)

log = logging.getLogger(__name__)


class Commits:
    """Commits a ledger to a store, at most every 50 ms unless asked for.

    Attributes:
        totals: those that were committed last.
        due: set this when the ledger has changed.
        problem: why the last commit failed, None if it did not.
        seconds: how long commits took.
        failures: how many failed.
    """

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store
        self._next_at = 0.0
        self.totals = ledger.totals()
        self.due = False
        self.problem: str | None = None
        self.seconds = Histogram(*_BUCKETS)
        self.failures = 0

    def commit_in_time(self) -> None:
        """Commit, unless the last commit was a moment ago."""
        if time.monotonic() >= self._next_at:
            self.commit()

    def commit(self) -> None:
        """Commit what has changed, if anything has. After a failure it is tried again with each call."""
        if not self.due and not self.problem:
            return
        started = time.monotonic()
        self._next_at = started + _INTERVAL
        try:
            self.totals = self._store.commit(self._ledger)
        except StoreError as error:
            self._fail(error)
            return
        self.seconds.observe([time.monotonic() - started])
        self.due = False
        if self.problem:
            log.info("committing again")
            self.problem = None

    def check_file(self) -> None:
        """Notice that the state file is gone without waiting for the next commit."""
        try:
            self._store.require_file()
        except StoreError as error:
            self._fail(error)

    def _fail(self, error: StoreError) -> None:
        self.failures += 1
        problem = f"cannot commit: {error.cause}"
        if problem != self.problem:
            log.error("%s; receiving stops until it succeeds", problem)
        self.problem = problem
