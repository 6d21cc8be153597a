"""A disk that can be full at the wanted instant."""

import sqlite3

from metrics_sidecar.ledger import Ledger, Totals
from metrics_sidecar.store import Store


class FailingStore(Store):
    """A store whose disk can be full."""

    full = False

    def commit(self, ledger: Ledger) -> Totals:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        return super().commit(ledger)
