"""The tape: trades counted, and the state of this page's own trades."""

from trading_app.counted import CountedTrade
from trading_app.losses import Status
from trading_app.messages import Trade
from trading_app.ui.handover import Sent
from trading_app.ui.poller import Snapshot
from trading_app.ui.tape import my_trades, tape

MINE, THEIRS = "mine", "theirs"


def counted(ts: float, session: str | None, seq: int | None) -> CountedTrade:
    return CountedTrade("buy", ts, ts, ts + 0.25, "BTC-USD", 100.0, session, seq)


def sent(ts: float, seq: int, status: Status = "waiting", settled_at: float | None = None) -> Sent:
    return Sent(Trade("sell", ts, ts, MINE, seq), status, settled_at)


def rows(log: list[Sent], *trades: CountedTrade) -> list[tuple[float, str]]:
    snapshot = Snapshot(asked_at=100.9, trades=trades, trades_at=100.0)
    return [(row.ts, row.state) for row in tape(log, frozenset([MINE]), snapshot)]


def test_it_shows_trades_of_all_publishers_and_the_state_of_own_trades() -> None:
    shown = rows([], counted(99.0, THEIRS, 1), counted(98.0, MINE, 4), counted(97.0, None, None))
    assert shown == [(99.0, ""), (98.0, "counted"), (97.0, "")]


def test_waiting_trades_come_first() -> None:
    assert rows([sent(90.0, 5)], counted(99.0, THEIRS, 1)) == [(90.0, "waiting"), (99.0, "")]


def test_a_trade_is_shown_exactly_once_in_each_state() -> None:
    assert rows([sent(99.5, 5)]) == [(99.5, "waiting")]
    assert rows([sent(99.5, 5, "delivered", 100.1)], counted(99.9, THEIRS, 1)) == [(99.9, ""), (99.5, "counted")]
    assert rows([sent(99.5, 5, "delivered", 99.8)], counted(99.5, MINE, 5)) == [(99.5, "counted")]


def test_an_own_trade_older_than_the_tape_is_not_shown() -> None:
    assert rows([sent(50.0, 5, "delivered", 51.0)], counted(99.0, THEIRS, 1)) == [(99.0, "")]


def test_a_lost_trade_is_sorted_by_its_time() -> None:
    shown = rows([sent(98.5, 5, "lost", 99.0)], counted(99.0, THEIRS, 2), counted(98.0, THEIRS, 1))
    assert shown == [(99.0, ""), (98.5, "lost"), (98.0, "")]


def test_the_delivery_time_runs_from_publisher_to_sidecar() -> None:
    (row,) = tape([], frozenset(), Snapshot(trades=(counted(99.0, THEIRS, 1),)))
    assert row.seconds == 0.25


def test_my_trades_have_their_state_and_the_time_until_it_was_confirmed() -> None:
    log = [sent(99.0, 7), sent(98.0, 6, "delivered", 98.5), sent(97.0, 5, "lost", 99.0)]
    assert [(row.state, row.seconds) for row in my_trades(log)] == [
        ("waiting", None),
        ("counted", 0.5),
        ("lost", None),
    ]
