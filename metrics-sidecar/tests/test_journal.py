"""The journal: what it shows has been committed, and what could not be committed is not forgotten."""

from pathlib import Path

import pytest
from failing_store import FailingStore
from prometheus_client import CollectorRegistry

from metrics_sidecar.exposition import SidecarCollector
from metrics_sidecar.journal import Journal
from metrics_sidecar.messages import Trade
from metrics_sidecar.receiver import Receiver
from metrics_sidecar.store import Store

TRADE = Trade("buy", 1.0, 100.0, "a", 1)


def test_what_is_not_committed_is_not_shown() -> None:
    journal = Journal(Store(None))
    journal.enter([TRADE], 100.0)
    assert journal.totals.trades["buy"] == 0
    assert journal.next_seq("a") == 1
    journal.commit()
    assert journal.totals.trades["buy"] == 1
    assert journal.next_seq("a") == 2


def test_a_scrape_commits_what_it_shows(tmp_path: Path) -> None:
    journal = Journal(Store(tmp_path / "state.sqlite3"))
    receiver = Receiver("tcp://127.0.0.1:*", journal)
    registry = CollectorRegistry()
    registry.register(SidecarCollector(journal, receiver))
    journal.enter([TRADE], 100.0)
    assert registry.get_sample_value("trades_total", {"side": "buy"}) == 1
    assert journal.next_seq("a") == 2
    receiver.stop()


def test_a_scrape_that_cannot_commit_shows_what_was_committed_last() -> None:
    store = FailingStore(None)
    journal = Journal(store)
    receiver = Receiver("tcp://127.0.0.1:*", journal)
    registry = CollectorRegistry()
    registry.register(SidecarCollector(journal, receiver))
    store.full = True
    journal.enter([TRADE], 100.0)
    assert registry.get_sample_value("trades_total", {"side": "buy"}) == 0
    receiver.stop()


def test_commits_are_not_more_frequent_than_needed() -> None:
    journal = Journal(Store(None))
    journal.enter([TRADE], 100.0)
    journal.commit_when_due()
    assert journal.next_seq("a") == 2
    journal.enter([Trade("buy", 1.0, 100.0, "a", 2)], 100.0)
    journal.commit_when_due()
    assert journal.next_seq("a") == 2


def test_what_could_not_be_committed_is_committed_later(caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore(None)
    journal = Journal(store)
    store.full = True
    journal.enter([TRADE], 100.0)
    journal.commit()
    journal.commit()
    assert journal.problem == "cannot commit: database or disk is full"
    assert journal.commit_failures == 2
    assert journal.totals.trades["buy"] == 0
    assert len(caplog.messages) == 1
    store.full = False
    journal.commit()
    assert journal.problem == ""
    assert journal.totals.trades["buy"] == 1


def test_a_close_commits_what_is_left(tmp_path: Path) -> None:
    journal = Journal(Store(tmp_path / "state.sqlite3"))
    journal.enter([TRADE], 100.0)
    journal.close()
    assert Store(tmp_path / "state.sqlite3").load().next_seq == {"a": 2}


def test_a_close_that_cannot_commit_says_so(caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore(None)
    journal = Journal(store)
    store.full = True
    journal.enter([TRADE], 100.0)
    journal.close()
    assert "what was received since is dropped" in caplog.messages[-1]


def test_only_moved_cursors_are_written() -> None:
    journal = Journal(Store(None))
    journal.enter([TRADE], 100.0)
    journal.commit()
    assert journal.ledger.moved == set()
