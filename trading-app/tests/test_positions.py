"""Positions by symbol."""

from trading_app.counted import CountedTrade
from trading_app.totals import SideTotals, Totals
from trading_app.ui.positions import Position, positions
from trading_app.ui.prices import Prices


def totals(**by_symbol: tuple[SideTotals, SideTotals]) -> Totals:
    return Totals({symbol: {"buy": buy, "sell": sell} for symbol, (buy, sell) in by_symbol.items()}, 0.0, 0.0, {})


def test_profit_is_what_was_sold_less_what_was_bought_and_what_is_held_at_the_last_price() -> None:
    traded = totals(BTC=(SideTotals(2, 3.0, 300.0), SideTotals(1, 1.0, 120.0)))
    assert list(positions(traded, {"BTC": 110.0})) == [
        Position("BTC", 2.0, 3.0, 1.0, 100.0, 120.0, 110.0, 420.0, 120.0 - 300.0 + 2.0 * 110.0)
    ]


def test_without_prices_there_is_a_position_and_no_profit() -> None:
    (position,) = positions(totals(BTC=(SideTotals(1, 3.0), SideTotals(1, 1.0))), {})
    assert position == Position("BTC", 2.0, 3.0, 1.0, None, None, None, None, None)


def test_without_a_last_price_there_is_no_profit_yet() -> None:
    (position,) = positions(totals(BTC=(SideTotals(1, 3.0, 300.0), SideTotals())), {})
    assert (position.turnover, position.average_buy, position.profit) == (300.0, 100.0, None)


def test_what_was_never_traded_is_no_position() -> None:
    assert list(positions(Totals({"": {"buy": SideTotals(), "sell": SideTotals()}}, 0.0, 0.0, {}), {})) == []


def test_a_position_without_a_symbol_says_so() -> None:
    (position,) = positions(Totals({"": {"buy": SideTotals(1, 0.1), "sell": SideTotals(1, 0.3)}}, 0.0, 0.0, {}), {})
    assert position.symbol == "(no symbol)"
    assert position.net == -0.2


def trade(received_at: float, price: float | None, symbol: str | None = "BTC") -> CountedTrade:
    return CountedTrade("buy", 1.0, received_at, received_at, symbol, price)


def test_the_last_price_of_each_second_is_remembered_and_stands_until_now() -> None:
    prices = Prices(60.0)
    prices.add([trade(100.1, 1.0), trade(100.9, 2.0), trade(103.0, 3.0), trade(104.0, None)])
    assert prices.last == {"BTC": 3.0}
    assert prices.over_time("BTC", 110.0) == [(100.0, 2.0), (103.0, 3.0), (110.0, 3.0)]
    assert prices.over_time("ETH", 110.0) == []


def test_old_prices_and_symbols_without_a_position_are_forgotten() -> None:
    prices = Prices(60.0)
    prices.add([trade(100.0, 1.0), trade(150.0, 2.0), trade(150.0, 9.0, "gone"), trade(150.0, 5.0, None)])
    prices.forget(170.0, ["BTC", ""])
    assert prices.last == {"BTC": 2.0, "": 5.0}
    assert prices.over_time("BTC", 170.0) == [(150.0, 2.0), (170.0, 2.0)]
