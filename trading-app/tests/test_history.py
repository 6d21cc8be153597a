"""Rates, positions and delivery times from polled totals."""

import math

import pytest

from trading_app.messages import SIDES
from trading_app.totals import SideTotals, Totals
from trading_app.ui.history import History


def totals(buys: float = 0, sells: float = 0, *delivery: float, lost: float = 0) -> Totals:
    """Totals with as many units as trades; ``delivery`` counts up to 1 s, to 2 s, and in all."""
    by_side = {side: SideTotals(trades, trades) for side, trades in zip(SIDES, (buys, sells), strict=True)}
    bounds = dict(zip((1.0, 2.0, math.inf), delivery or (0.0, 0.0, 0.0), strict=True))
    return Totals({"": by_side}, 100.0, lost, bounds)


def seen(*polls: tuple[float, Totals]) -> History:
    history = History(60.0)
    for at, what in polls:
        history.add(at, what)
    return history


def test_a_rate_is_measured_between_the_first_and_last_poll_of_its_time() -> None:
    history = seen((90.0, totals(0, 0)), (100.0, totals(10, 0)), (104.0, totals(18, 4)))
    assert history.rates(5.0, now=105.0) == {"buy": 2.0, "sell": 1.0}


def test_one_poll_gives_no_rate() -> None:
    assert seen().rates(5.0, now=100.0) is None
    assert seen((100.0, totals(10, 0))).rates(5.0, now=100.0) is None
    assert seen((10.0, totals(10, 0)), (100.0, totals(20, 0))).rates(5.0, now=100.0) is None


def test_a_counter_reset_gives_no_negative_rate() -> None:
    assert seen((100.0, totals(10, 10)), (101.0, totals(0, 12))).rates(5.0, now=101.0) == {"buy": 0.0, "sell": 2.0}


def test_each_poll_after_the_first_gives_a_point() -> None:
    points = seen((100.0, totals(0, 0)), (102.0, totals(4, 0)), (103.0, totals(4, 6))).points()
    assert [(point.at, point.rates) for point in points] == [
        (102.0, {"buy": 2.0, "sell": 0.0}),
        (103.0, {"buy": 0.0, "sell": 6.0}),
    ]


def test_each_poll_gives_a_position() -> None:
    history = seen((100.0, totals(0, 0)), (102.0, totals(4, 0)), (103.0, totals(4, 6)))
    assert history.positions("") == [(100.0, 0.0), (102.0, 4.0), (103.0, -2.0)]
    assert {value for _, value in history.positions("BTC-USD")} == {0.0}


def test_old_polls_are_dropped() -> None:
    points = seen(*((float(at), totals()) for at in range(200))).points()
    assert [point.at for point in points] == list(range(139, 200))


def test_the_first_poll_after_a_long_pause_gives_no_point() -> None:
    assert seen((10.0, totals()), (11.0, totals()), (100.0, totals(5))).points() == []


@pytest.mark.parametrize(
    "counts, quantile, expected",
    [
        ((100, 100, 100), 0.5, 0.5),
        ((50, 100, 100), 0.5, 1.0),
        ((50, 100, 100), 0.99, 1.98),
        ((0, 100, 100), 0.5, 1.5),
        ((0, 0, 100), 0.5, 2.0),
        ((0, 0, 0), 0.5, None),
    ],
)
def test_quantiles_match_prometheus(
    counts: tuple[float, float, float], quantile: float, expected: float | None
) -> None:
    before = totals(0, 0, 10, 10, 10)
    after = totals(0, 0, *(10 + count for count in counts))
    delivery = seen((100.0, before), (101.0, after)).delivery(quantile, 60.0, now=101.0)
    assert delivery == (None if expected is None else pytest.approx(expected))


def test_after_a_restart_of_the_sidecar_quantiles_use_the_new_counts() -> None:
    history = seen((100.0, totals(0, 0, 900, 900, 900)), (101.0, totals(0, 0, 0, 5, 5)))
    assert history.delivery(0.5, 60.0, now=101.0) == pytest.approx(1.5)


def test_lost_trades_are_counted_within_the_given_time() -> None:
    history = seen((90.0, totals(lost=5)), (100.0, totals(lost=7)), (110.0, totals(lost=7)))
    assert history.lost(30.0, now=110.0) == 2
    assert history.lost(15.0, now=110.0) == 0
    assert seen().lost(15.0, now=110.0) == 0


def test_trades_lost_after_a_reset_of_the_state_are_counted() -> None:
    history = seen((90.0, totals(lost=5)), (100.0, totals(lost=7)), (110.0, totals(lost=3)), (120.0, totals(lost=4)))
    assert history.lost(60.0, now=120.0) == 2 + 3 + 1
