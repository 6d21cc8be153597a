"""The ledger: which trades count, which are duplicates, which are lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_sidecar.ledger import Ledger
from metrics_sidecar.messages import SIDES, GapFill, Message, Rejected, Side, Trade
from metrics_sidecar.tallies import Series


def trade(seq: int = 0, side: Side = "buy", qty: float = 1.0, ts: float = 100.0, session: str = "s") -> Trade:
    return Trade(side, qty, ts, session, seq) if seq else Trade(side, qty, ts)


def gap_fill(new_seq: int) -> GapFill:
    return GapFill("s", new_seq)


def rejected(seq: int = 0) -> Rejected:
    return Rejected("invalid_field", "qty", b"", "s" if seq else "", seq)


def test_both_sides_start_at_zero() -> None:
    totals = Ledger().totals()
    assert totals.series == {("buy", ""): Series(0.0, 0, 0.0, 0.0), ("sell", ""): Series(0.0, 0, 0.0, 0.0)}
    assert totals.last_trade_ts == 0.0
    assert totals.lost == 0


def test_trades_add_up_by_side() -> None:
    ledger = Ledger()
    for message in trade(qty=2.0), trade(qty=0.5), trade(side="sell", qty=4.0, ts=101.5):
        ledger.apply([message], received_at=102.0)
    totals = ledger.totals()
    assert totals.series == {("buy", ""): Series(0.0, 2, 2.5), ("sell", ""): Series(0.0, 1, 4.0)}
    assert totals.last_trade_ts == 101.5


def test_an_untracked_trade_counts_each_time_it_arrives() -> None:
    ledger = Ledger()
    ledger.apply([trade()], 100.0)
    ledger.apply([trade()], 100.0)
    assert ledger.totals().series["buy", ""].trades == 2
    assert ledger.next_seq == {}


def test_a_tracked_trade_counts_once_and_moves_the_cursor() -> None:
    ledger = Ledger()
    ledger.apply([trade(seq=1)], 100.0)
    ledger.apply([trade(seq=1)], 100.0)
    assert ledger.totals().series["buy", ""].trades == 1
    assert ledger.next_seq == {"s": 2}
    assert ledger.duplicates == 1


def test_a_trade_out_of_sequence_counts_only_when_it_is_resent_in_turn() -> None:
    ledger = Ledger()
    for seq in (2, 1, 2):
        ledger.apply([trade(seq=seq)], 100.0)
    assert ledger.totals().series["buy", ""].trades == 2
    assert ledger.out_of_sequence == 1


def test_each_session_has_its_own_cursor() -> None:
    ledger = Ledger()
    ledger.apply([trade(seq=1, session="a")], 100.0)
    ledger.apply([trade(seq=1, session="b")], 100.0)
    assert ledger.totals().series["buy", ""].trades == 2
    assert ledger.next_seq == {"a": 2, "b": 2}


def test_a_gap_fill_counts_the_skipped_trades_as_lost_and_moves_the_cursor() -> None:
    ledger = Ledger()
    ledger.apply([trade(seq=1)], 100.0)
    ledger.apply([gap_fill(5)], 100.0)
    ledger.apply([trade(seq=5)], 100.0)
    assert ledger.totals().lost == 3
    assert ledger.totals().series["buy", ""].trades == 2


def test_a_gap_fill_at_or_below_the_cursor_changes_nothing() -> None:
    ledger = Ledger()
    ledger.apply([trade(seq=1)], 100.0)
    ledger.apply([gap_fill(2)], 100.0)
    ledger.apply([gap_fill(1)], 100.0)
    assert ledger.totals().lost == 0
    assert ledger.next_seq == {"s": 2}


def test_a_trade_declared_lost_does_not_count_when_it_arrives_later() -> None:
    ledger = Ledger()
    ledger.apply([gap_fill(3)], 100.0)
    ledger.apply([trade(seq=2)], 100.0)
    assert ledger.totals().series["buy", ""].trades == 0
    assert ledger.totals().lost == 2


def test_lost_trades_are_counted_exactly_beyond_2_to_the_53() -> None:
    ledger = Ledger()
    for session in range(20_000):
        ledger.apply([GapFill(f"s{session}", 10**12 + 1)], 100.0)
    ledger.apply([gap_fill(2)], 100.0)
    assert ledger.totals().lost == 20_000 * 10**12 + 1


def test_tracked_trades_are_also_counted_separately() -> None:
    ledger = Ledger()
    ledger.apply([trade(), trade(seq=1), trade(seq=1), trade(seq=3), trade(seq=2)], 100.0)
    assert ledger.totals().series["buy", ""].trades == 3
    assert ledger.totals().tracked == 2


def test_an_invalid_trade_next_in_sequence_counts_as_lost() -> None:
    ledger = Ledger()
    ledger.apply([trade(seq=1), rejected(2), trade(seq=3)], 100.0)
    assert ledger.totals().series["buy", ""].trades == 2
    assert ledger.totals().lost == 1
    assert ledger.next_seq == {"s": 4}
    assert ledger.rejected["invalid_field"] == 1
    assert ledger.received == 3


@pytest.mark.parametrize("seq", [0, 1, 3], ids=["untracked", "duplicate", "ahead"])
def test_an_invalid_trade_out_of_sequence_does_not_move_the_cursor(seq: int) -> None:
    ledger = Ledger()
    ledger.apply([trade(seq=1), rejected(seq)], 100.0)
    assert ledger.totals().lost == 0
    assert ledger.next_seq == {"s": 2}


def test_apply_returns_rejections_and_losses() -> None:
    batch: list[Message] = [trade(seq=1), gap_fill(2), gap_fill(3), rejected(), rejected(3)]
    assert Ledger().apply(batch, 100.0) == batch[2:]


def test_totals_are_a_copy() -> None:
    ledger = Ledger()
    before = ledger.totals()
    ledger.apply([trade()], 100.0)
    assert before.series["buy", ""].trades == 0


def test_delivery_time_is_from_ts_to_receipt() -> None:
    ledger = Ledger()
    ledger.apply([trade(ts=100.0)], received_at=100.2)
    assert ledger.delivery.sum == pytest.approx(0.2)
    buckets = dict(ledger.delivery.buckets())
    assert buckets["0.1"] == 0
    assert buckets["0.25"] == buckets["+Inf"] == 1


def test_a_ts_in_the_future_has_a_delivery_time_of_zero() -> None:
    ledger = Ledger()
    ledger.apply([trade(ts=200.0)], received_at=100.0)
    assert ledger.delivery.sum == 0.0
    assert dict(ledger.delivery.buckets())["0.0005"] == 1


orders = (
    st.sampled_from(SIDES),
    st.integers(0, 640).map(lambda count: count / 64),
    st.sampled_from([99.0, 99.9995, 99.75, 100.0, 101.0, -1e6]),
)
details = {"symbol": st.sampled_from(["", "", "A", "B", "C", "other"]), "price": st.sampled_from([0.0, 0.25, 64.5])}
messages = (
    st.builds(Trade, *orders, **details)
    | st.builds(Trade, *orders, st.sampled_from("ab"), st.integers(1, 4), **details)
    | st.builds(GapFill, st.sampled_from("ab"), st.integers(1, 4))
    | st.builds(Rejected, st.just("invalid_field"), st.just(""), st.just(b""), st.sampled_from("ab"), st.integers(1, 4))
)


@given(st.lists(messages))
def test_applying_a_batch_equals_applying_each_message(batch: list[Message]) -> None:
    at_once, one_by_one = Ledger(max_symbols=2), Ledger(max_symbols=2)
    at_once.apply(batch, 100.0)
    for message in batch:
        one_by_one.apply([message], 100.0)
    assert at_once.totals() == one_by_one.totals()
    assert (at_once.next_seq, at_once.dirty_sessions) == (one_by_one.next_seq, one_by_one.dirty_sessions)
    assert at_once.delivery.buckets() == one_by_one.delivery.buckets()
    assert (at_once.received, at_once.rejected) == (one_by_one.received, one_by_one.rejected)
    assert (at_once.duplicates, at_once.out_of_sequence) == (one_by_one.duplicates, one_by_one.out_of_sequence)
