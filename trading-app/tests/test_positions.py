"""Positions by symbol, and last prices."""

from trading_app.counted import CountedTrade
from trading_app.totals import SideTotals, Totals
from trading_app.ui.positions import Position, positions
from trading_app.ui.prices import Prices


def totals(**by_symbol: tuple[SideTotals, SideTotals]) -> Totals:
    return Totals({symbol: {"buy": buy, "sell": sell} for symbol, (buy, sell) in by_symbol.items()}, 0.0, 0.0, {})


def test_profit_is_sells_minus_buys_plus_the_net_position_at_the_last_price() -> None:
    traded = totals(BTC=(SideTotals(2, 3.0, 300.0), SideTotals(1, 1.0, 120.0)))
    assert list(positions(traded, {"BTC": 110.0}, ())) == [
        Position("BTC", 2.0, 3.0, 1.0, 100.0, 120.0, 110.0, 420.0, 120.0 - 300.0 + 2.0 * 110.0)
    ]


def test_without_prices_a_position_has_no_profit() -> None:
    (position,) = positions(totals(BTC=(SideTotals(1, 3.0), SideTotals(1, 1.0))), {}, ())
    assert position == Position("BTC", 2.0, 3.0, 1.0, None, None, None, None, None)


def test_without_a_last_price_a_position_has_no_profit() -> None:
    (position,) = positions(totals(BTC=(SideTotals(1, 3.0, 300.0), SideTotals())), {}, ())
    assert (position.turnover, position.average_buy, position.profit) == (300.0, 100.0, None)


def test_a_symbol_without_trades_has_no_position() -> None:
    assert list(positions(Totals({"": {"buy": SideTotals(), "sell": SideTotals()}}, 0.0, 0.0, {}), {}, ())) == []


def test_with_trades_known_to_have_no_price_averages_and_profit_are_unknown() -> None:
    traded = totals(BTC=(SideTotals(2, 3.0, 300.0), SideTotals(1, 1.0, 120.0)))
    (position,) = positions(traded, {"BTC": 110.0}, {"BTC"})
    assert (position.average_buy, position.average_sell, position.profit) == (None, None, None)
    assert (position.net, position.last, position.turnover) == (2.0, 110.0, 420.0)


def test_with_a_side_that_has_no_prices_the_profit_is_unknown() -> None:
    (position,) = positions(totals(BTC=(SideTotals(1, 3.0, 300.0), SideTotals(1, 1.0))), {"BTC": 110.0}, ())
    assert (position.average_buy, position.average_sell, position.profit) == (100.0, None, None)


def test_a_position_without_a_symbol_is_labelled() -> None:
    (position,) = positions(Totals({"": {"buy": SideTotals(1, 0.1), "sell": SideTotals(1, 0.3)}}, 0.0, 0.0, {}), {}, ())
    assert position.symbol == "(no symbol)"
    assert position.net == -0.2


def trade(received_at: float, price: float | None, symbol: str | None = "BTC") -> CountedTrade:
    return CountedTrade("buy", 1.0, received_at, received_at, symbol, price)


def test_prices_over_time_have_the_last_price_of_each_second_and_extend_to_now() -> None:
    prices = Prices(60.0)
    prices.add([trade(100.1, 1.0), trade(100.9, 2.0), trade(103.0, 3.0), trade(104.0, None)])
    assert prices.last == {"BTC": 3.0}
    assert prices.over_time("BTC", 110.0) == [(100.0, 2.0), (103.0, 3.0), (110.0, 3.0)]
    assert prices.over_time("ETH", 110.0) == []
    assert prices.unpriced == {"BTC"}


def test_old_prices_and_unknown_symbols_are_dropped() -> None:
    prices = Prices(60.0)
    prices.add([trade(100.0, 1.0), trade(150.0, 2.0), trade(150.0, 9.0, "gone"), trade(150.0, 5.0, None)])
    prices.add([trade(150.0, None, "gone")])
    prices.forget(170.0, ["BTC", ""])
    assert prices.last == {"BTC": 2.0, "": 5.0}
    assert prices.unpriced == frozenset()
    assert prices.over_time("BTC", 170.0) == [(150.0, 2.0), (170.0, 2.0)]
