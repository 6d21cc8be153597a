"""Series by symbol: their sums are exact, and their number is limited."""

import itertools
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from prometheus_client.parser import text_string_to_metric_families

from metrics_sidecar.exposition import Snapshot, render
from metrics_sidecar.histogram import Histogram
from metrics_sidecar.ledger import Ledger, Totals
from metrics_sidecar.messages import SIDES, Side, Trade
from metrics_sidecar.store import Store
from metrics_sidecar.tallies import OTHER, Series

type Shown = dict[tuple[str, Side, str | None], float]


def count(ledger: Ledger, *symbols: str, side: Side = "buy", price: float = 2.0, received_at: float = 100.0) -> None:
    ledger.apply([Trade(side, 1.5, 99.0, symbol=symbol, price=price) for symbol in symbols], received_at)


def series(ledger: Ledger) -> dict[tuple[Side, str], Series]:
    return ledger.totals().series


def labels(ledger: Ledger) -> list[str]:
    """The symbols that have series."""
    return [symbol for side, symbol in series(ledger) if side == "buy"]


def shown(totals: Totals) -> Shown:
    """The samples of all families with a side. The symbol is None if the label is absent."""
    snapshot = Snapshot(totals, 0, {}, 0, 0, 0, Histogram(1.0), Histogram(1.0), 0, 0)
    return {
        (sample.name, "buy" if sample.labels["side"] == "buy" else "sell", sample.labels.get("symbol")): sample.value
        for family in text_string_to_metric_families(render(snapshot, "")[0].decode())
        for sample in family.samples
        if "side" in sample.labels
    }


def test_a_trade_counts_in_the_series_of_its_symbol() -> None:
    ledger = Ledger()
    count(ledger, "BTC-USD", "BTC-USD", "ETH-USD")
    count(ledger, "BTC-USD", side="sell", price=0.0)
    count(ledger, "")
    assert series(ledger)["buy", "BTC-USD"] == Series(100.0, 2, 3.0, 6.0)
    assert series(ledger)["sell", "BTC-USD"] == Series(100.0, 1, 1.5, 0.0)
    assert series(ledger)["buy", "ETH-USD"] == Series(100.0, 1, 1.5, 3.0)
    assert series(ledger)["buy", ""] == Series(0.0, 1, 1.5, 3.0)


def test_admitting_a_symbol_creates_both_of_its_sides() -> None:
    ledger = Ledger()
    count(ledger, "BTC-USD", received_at=123.5)
    assert series(ledger)["sell", "BTC-USD"] == Series(123.5)


def test_trades_without_a_symbol_have_no_symbol_label() -> None:
    ledger = Ledger()
    count(ledger, "", "", price=0.0)
    assert shown(ledger.totals()) == {
        ("trades_total", "buy", None): 2,
        ("trades_total", "sell", None): 0,
        ("volume_total", "buy", None): 3,
        ("volume_total", "sell", None): 0,
        ("notional_total", "buy", None): 0,
        ("notional_total", "sell", None): 0,
    }


def test_symbols_are_admitted_in_the_order_of_counted_trades() -> None:
    ledger = Ledger(max_symbols=2)
    early = Trade("buy", 1.0, 99.0, "s", 2, "EARLY")  # Out of sequence, so it does not count.
    ledger.apply([early, Trade("sell", 1.0, 99.0, symbol="C"), Trade("buy", 1.0, 99.0, symbol="A")], 100.0)
    count(ledger, "B", "A")
    assert labels(ledger) == ["", "C", "A", OTHER]
    assert series(ledger)["buy", OTHER].trades == 1
    assert ledger.totals().symbols == 2


def test_a_symbol_named_other_takes_no_slot() -> None:
    ledger = Ledger(max_symbols=1)
    count(ledger, OTHER, "A", "B")
    assert series(ledger)["buy", OTHER].trades == 2
    assert series(ledger)["buy", "A"].trades == 1
    assert ledger.totals().symbols == 1


def test_with_a_limit_of_0_every_symbol_counts_as_other() -> None:
    ledger = Ledger(max_symbols=0)
    count(ledger, "A", "", "B")
    assert labels(ledger) == ["", OTHER]
    assert ledger.totals().symbols == 0


@pytest.mark.parametrize("max_symbols, expected", [(0, {"A", "B"}), (2, {"A", "B"}), (3, {"A", "B", "C"})])
def test_admitted_symbols_keep_their_series_under_another_limit(
    tmp_path: Path, max_symbols: int, expected: set[str]
) -> None:
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load(2)
    count(ledger, "A", "B", "C", received_at=100.25)
    before = store.commit(ledger).series
    store.close()
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load(max_symbols)
    assert series(ledger) == before
    count(ledger, "C", "D", "B")
    assert set(labels(ledger)) == expected | {"", OTHER}
    assert series(ledger)["buy", "B"] == Series(100.25, 2, 3.0, 6.0)
    store.close()


def test_every_total_stays_finite() -> None:
    ledger = Ledger()
    for symbol in "", "A":
        largest = Trade("buy", 1e12, 1e11, symbol=symbol, price=1e12)
        ledger.apply([largest] * 1000, 0.0)
    assert all(value < 1e30 for value in shown(ledger.totals()).values())
    assert ledger.delivery.sum == 0.0
    ledger.apply([Trade("sell", 1.0, 0.0)] * 1000, 1e11)
    assert ledger.delivery.sum == 1e14


symbols = st.sampled_from(["", "A", "B", "C", "D", "E", OTHER])
limits = st.integers(0, 4)
trades = st.tuples(st.sampled_from(SIDES), symbols, st.sampled_from([0.25, 1.5]), st.sampled_from([0.0, 64.5]))


class LedgerLife(RuleBasedStateMachine):
    """Counts, commits, kills and restarts, compared with a model that counts one trade after another."""

    @initialize(limit=limits)
    def begin(self, limit: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.sqlite3"
        self.store, self.limit = Store(self.path), limit
        self.ledger = self.store.load(limit)
        self.counted: Shown = {}
        self.admitted: list[str] = []
        self.committed = (self.counted.copy(), self.admitted.copy())
        self.last_shown: Shown = {}

    @rule(batch=st.lists(trades, max_size=8))
    def arrive(self, batch: list[tuple[Side, str, float, float]]) -> None:
        self.ledger.apply([Trade(side, qty, 99.0, symbol=symbol, price=price) for side, symbol, qty, price in batch], 1)
        for side, symbol, qty, price in batch:
            if symbol not in ("", OTHER, *self.admitted) and len(self.admitted) < self.limit:
                self.admitted.append(symbol)
            label = symbol if symbol in self.admitted else OTHER
            for name, value in ("trades", 1), ("volume", qty), ("notional", qty * price):
                sample: tuple[str, Side, str | None] = (f"{name}_total", side, label if symbol else None)
                self.counted[sample] = self.counted.get(sample, 0) + value

    @rule()
    def commit(self) -> None:
        totals = self.store.commit(self.ledger)
        self.committed = (self.counted.copy(), self.admitted.copy())
        now = shown(totals)
        for sample, before in self.last_shown.items():
            assert now[sample] >= before
        assert {sample: value for sample, value in now.items() if value} == {
            sample: value for sample, value in self.counted.items() if value
        }
        assert totals.symbols == len(self.admitted)
        assert len(now) <= 3 * len(SIDES) * (len(self.admitted) + 2)
        self.last_shown = now

    @rule(limit=limits)
    def be_killed(self, limit: int) -> None:
        self.store.close()
        self.store, self.limit = Store(self.path), limit
        self.ledger = self.store.load(limit)
        self.counted, self.admitted = self.committed[0].copy(), self.committed[1].copy()

    @rule(limit=limits)
    def restart(self, limit: int) -> None:
        self.commit()
        self.be_killed(limit)

    @invariant()
    def the_sum_over_symbols_equals_the_trades_counted(self) -> None:
        if hasattr(self, "ledger"):
            counted = sum(value for (name, *_), value in self.counted.items() if name == "trades_total")
            assert sum(each.trades for each in series(self.ledger).values()) == counted

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestLedgerLife = pytest.mark.slow(LedgerLife.TestCase)
TestLedgerLife.settings = settings(max_examples=60, stateful_step_count=20)


def test_memory_file_and_scrape_stay_bounded_for_any_number_of_symbols(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = Store(path)
    ledger = store.load(100)
    numbers = itertools.count()

    def grow(trades: int) -> tuple[int, int, int]:
        """Count trades of as many new symbols. Returns memory in use, number of series and size of a scrape."""
        for _ in range(trades // 1000):
            count(ledger, *(f"SYM-{number}" for number in itertools.islice(numbers, 1000)))
            store.commit(ledger)
        samples = shown(ledger.totals())
        return tracemalloc.get_traced_memory()[0], len(samples), len(str(samples))

    tracemalloc.start()
    grow(5_000)
    memory, series_before, size = grow(1_000)
    memory_after, series_after, size_after = grow(50_000)
    tracemalloc.stop()
    assert series_before == series_after == 3 * len(SIDES) * (100 + 2)
    assert size_after - size < 100
    assert memory_after - memory < 100_000
    assert series(ledger)["buy", OTHER].trades == 56_000 - 100
    store.close()
    assert path.stat().st_size < 100_000


def test_each_histogram_is_shown_with_the_sum_of_its_values() -> None:
    delivery, commits = Histogram(1.0), Histogram(1.0)
    delivery.observe([0.25, 2.0])
    commits.observe([0.5])
    text = render(Snapshot(Totals(), 0, {}, 0, 0, 0, delivery, commits, 0, 0), "")[0].decode()
    assert "trade_delivery_seconds_sum 2.25\n" in text
    assert "sidecar_commit_seconds_sum 0.5\n" in text
