"""A store whose disk fails on demand."""

import threading

from metrics_sidecar.ledger import Ledger, Totals
from metrics_sidecar.store import Store
from metrics_sidecar.store_error import StoreError


class FailingStore(Store):
    """A store in memory whose disk is full while ``full`` is true.

    Commits hang while ``answers`` is cleared; ``hangs`` is set when the first one does.
    """

    full = False

    def __init__(self) -> None:
        super().__init__(None)
        self.answers = threading.Event()
        self.answers.set()
        self.hangs = threading.Event()

    def commit(self, ledger: Ledger) -> Totals:
        if not self.answers.is_set():
            self.hangs.set()
        self.answers.wait()
        if self.full:
            raise StoreError("database or disk is full", "Make room")
        return super().commit(ledger)
