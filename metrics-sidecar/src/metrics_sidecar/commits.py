"""Commits the ledger to the store and records how that went."""

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
    """Commits a ledger to a store.

    Attributes:
        totals: the totals of the last successful commit.
        problem: why the last commit failed; None if it succeeded.
        seconds: durations of successful commits.
        failures: number of failed commits.
    """

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store
        self._next_at = 0.0
        self.totals = ledger.totals()
        self._changed = False
        self.problem: str | None = None
        self.seconds = Histogram(*_BUCKETS)
        self.failures = 0

    def note_change(self) -> None:
        """Note that the ledger has changed."""
        self._changed = True

    def commit_if_due(self) -> None:
        """Commit, unless less than 50 ms have passed since the last attempt."""
        if time.monotonic() >= self._next_at:
            self.commit()

    def commit(self) -> None:
        """Commit if the ledger has changed. After a failure every call retries."""
        if not self._changed and not self.problem:
            return
        started = time.monotonic()
        self._next_at = started + _INTERVAL
        try:
            self.totals = self._store.commit(self._ledger)
        except StoreError as error:
            self._fail(error)
            return
        self.seconds.observe([time.monotonic() - started])
        self._changed = False
        if self.problem:
            log.info("commits succeed again")
            self.problem = None

    def check_file(self) -> None:
        """Report a missing state file now instead of at the next commit."""
        try:
            self._store.require_file()
        except StoreError as error:
            self._fail(error)

    def _fail(self, error: StoreError) -> None:
        self.failures += 1
        problem = f"cannot commit: {error.cause}"
        if problem != self.problem:
            log.error("%s; nothing is received until a commit succeeds", problem)
        self.problem = problem
