"""The page, run by Streamlit without a browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from app_process import METRICS, FakeSidecar, eventually
from streamlit.testing.v1 import AppTest

import trading_app.ui
from trading_app.messages import SIDES, Side
from trading_app.ui import ticket
from trading_app.ui.fields import problem, read_symbol
from trading_app.ui.numbers import NONE

PAGE = str(Path(trading_app.ui.__file__).parent / "page.py")
BTC = {"side": "buy", "qty": 1.5, "ts": 100.0, "received_at": 100.25, "symbol": "BTC-USD", "price": 64250.5}


def plain_buttons(_symbol: str) -> list[Side]:
    """Streamlit's own, as the tests of Streamlit press no others. The real ones are pressed in the browser's tests."""
    return [side for side in SIDES if st.button(side.capitalize())]


@pytest.fixture
def page(sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    for key, value in sidecar.environ.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(ticket, "draw_buttons", plain_buttons)
    yield open_page()
    st.cache_resource.clear()


def open_page() -> AppTest:
    return AppTest.from_file(PAGE, default_timeout=30).run()


def press(page: AppTest, label: str) -> AppTest:
    (button,) = (button for button in page.button if button.label == label)
    return button.click().run()


def show(page: AppTest, trades: str) -> AppTest:
    page.session_state["tape-of"] = trades
    return page.run()


def column(page: AppTest, name: str) -> list[str]:
    """A column of the tape."""
    return [str(cell) for cell in page.table[0].value[name]]


def metrics(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def said(page: AppTest) -> str:
    """What the page says in words."""
    return " ".join(element.value for element in (*page.success, *page.warning, *page.error, *page.markdown))


def hint(page: AppTest) -> str:
    return " ".join(element.proto.body for element in page.get("html") if "hint" in element.proto.body)


def test_a_press_sends_a_trade_of_1_of_the_symbol_shown(page: AppTest, sidecar: FakeSidecar) -> None:
    press(page, "Buy")
    trade = sidecar.receive()
    assert (trade["side"], trade["qty"], trade["symbol"]) == ("buy", 1.0, "BTC-USD")
    assert "price" not in trade
    assert (column(page, "Side"), column(page, "Quantity")) == ([":green[buy]"], ["1"])
    assert not page.error


def test_symbol_quantity_and_price_are_those_of_the_ticket(page: AppTest, sidecar: FakeSidecar) -> None:
    page.selectbox(key="symbol").set_value("ETH-USD")
    page.text_input(key="quantity").set_value(" 2.5 ")
    page.text_input(key="price").set_value("0.125")
    press(page, "Sell")
    trade = sidecar.receive()
    assert (trade["side"], trade["qty"], trade["symbol"], trade["price"]) == ("sell", 2.5, "ETH-USD", 0.125)


def test_a_trade_may_have_no_symbol(page: AppTest, sidecar: FakeSidecar) -> None:
    page.selectbox(key="symbol").set_value("")
    press(page, "Sell")
    assert "symbol" not in sidecar.receive()


def test_the_symbol_chosen_last_is_remembered(page: AppTest) -> None:
    page.selectbox(key="symbol").set_value("ETH-USD").run()
    assert open_page().selectbox(key="symbol").value == "ETH-USD"


def test_another_page_does_not_change_the_symbol(page: AppTest) -> None:
    other = open_page()
    other.selectbox(key="symbol").set_value("ETH-USD").run()
    assert page.run().selectbox(key="symbol").value == "BTC-USD"


def test_symbols_that_were_traded_can_be_chosen(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.metrics += 'trades_total{side="buy",symbol="XRP-USD"} 2.0\n'
    assert eventually(lambda: "XRP-USD" in page.run().selectbox(key="symbol").options)


@pytest.mark.parametrize(
    "field, typed, reason",
    [
        ("quantity", "0", "quantity must be above 0 and at most 1e+12"),
        ("quantity", "-2", "quantity must be above 0 and at most 1e+12"),
        ("quantity", "nan", "quantity must be a number such as 2.5"),
        ("quantity", "1_000", "quantity must be a number such as 2.5"),
        ("quantity", "\u0661", "quantity must be a number such as 2.5"),
        ("quantity", "1e999", "quantity must be above 0 and at most 1e+12"),
        ("quantity", "", "quantity must be a number such as 2.5"),
        ("quantity", "2,5", "quantity must be a number such as 2.5"),
        ("quantity", "much", "quantity must be a number such as 2.5"),
        ("price", "-1", "price must be from 0 to 1e+12"),
        ("price", "much", "price must be a number such as 2.5"),
    ],
)
def test_what_makes_no_trade_is_marked_before_the_press_and_refused_after_it(
    page: AppTest, sidecar: FakeSidecar, field: str, typed: str, reason: str
) -> None:
    assert reason not in hint(page)
    page.session_state[field] = typed
    page.run()
    assert reason in hint(page)
    press(page, "Buy")
    assert reason in page.toast[0].value
    assert not column(page, "Side")
    assert sidecar.is_silent()


def test_a_symbol_that_is_none_has_a_reason() -> None:
    assert "symbol must be 1 to 32 of" in problem(read_symbol, "a b")
    assert problem(read_symbol, "") == ""


@pytest.mark.parametrize("quantity, shown", [("1234567.5", "1,234,567.5"), ("0.1234567", "0.1234567"), ("100", "100")])
def test_a_quantity_is_shown_with_all_its_digits(page: AppTest, quantity: str, shown: str) -> None:
    page.text_input(key="quantity").set_value(quantity)
    press(page, "Buy")
    assert column(page, "Quantity") == [shown]


def test_a_trade_turns_from_waiting_to_counted_with_how_long_that_took(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    press(page, "Buy")
    show(page, "My trades")
    assert column(page, "State") == [":blue-badge[waiting]"]
    sidecar.commits = True
    assert eventually(lambda: column(page.run(), "State") == [":green[counted]"])
    assert column(page, "Took")[0].endswith(("ms", "s"))


def test_the_tape_has_the_trades_of_all_publishers(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.counted = [
        {**BTC, "session": "theirs", "seq": 1},
        {"side": "sell", "qty": 2, "ts": 99, "received_at": 99.001},
    ]
    assert eventually(lambda: len(column(page.run(), "Side")) == 2)
    assert column(page, "Symbol") == ["BTC-USD", NONE]
    assert column(page, "Price") == ["64,250.5", NONE]
    assert column(page, "Took") == ["250 ms", "1 ms"]
    assert column(page, "State") == ["", ""]


def test_my_trades_are_those_of_this_page_the_newest_first(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.counted = [{**BTC, "session": "theirs", "seq": 1}]
    press(page, "Buy")
    press(page, "Sell")
    show(page, "My trades")
    assert column(page, "Side") == [":red[sell]", ":green[buy]"]


def test_positions_are_by_symbol(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.metrics = METRICS + "".join(
        f'{name}{{side="{side}",symbol="BTC-USD"}} {value}\n'
        for name, side, value in (
            ("trades_total", "buy", 1),
            ("volume_total", "buy", 1.5),
            ("notional_total", "buy", 96_000),
        )
    )
    sidecar.counted = [{**BTC, "session": "theirs", "seq": 1}]
    assert eventually(lambda: len(page.run().dataframe[0].value) == 2)
    unnamed, btc = page.dataframe[0].value.to_dict("records")
    assert (unnamed["Symbol"], unnamed["Net"]) == ("(no symbol)", 2.5)
    assert (btc["Symbol"], btc["Net"], btc["Avg. buy"], btc["Last"], btc["Profit"]) == (
        "BTC-USD", 1.5, 64_000, 64250.5, 375.75,
    )  # fmt: skip


def test_the_numbers_are_those_of_the_sidecar(page: AppTest) -> None:
    shown = metrics(page)
    assert (shown[":green[Buy trades]"], shown[":red[Sell trades]"]) == ("3", "1")
    assert shown["Last trade"].endswith(" ago")
    assert "**Live**" in said(page)
    assert ":green-badge[idle]" in said(page)


def test_while_the_sidecar_is_away_the_page_says_so_and_keeps_the_last_numbers(
    page: AppTest, sidecar: FakeSidecar
) -> None:
    sidecar.close()
    for _ in range(3):
        press(page, "Buy")
    assert eventually(lambda: "**Sidecar away**" in said(page.run()))
    assert "3 trades wait here" in said(page)
    assert "as of" in said(page)
    assert metrics(page)[":green[Buy trades]"] == "3"
    assert column(page, "State") == [":blue-badge[waiting]"] * 3
    assert not page.exception
    sidecar.open()
    assert eventually(lambda: "**Live**" in said(page.run()))
    show(page, "My trades")
    assert eventually(lambda: column(page.run(), "State") == [":green[counted]"] * 3)


def test_a_page_opened_without_a_sidecar_has_no_numbers_yet(
    absent: FakeSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in absent.environ.items():
        monkeypatch.setenv(key, value)
    page = open_page()
    assert set(metrics(page).values()) == {NONE}
    assert "**Sidecar away**" in said(page)
    assert not page.exception
    st.cache_resource.clear()


def test_without_prometheus_the_charts_say_what_they_show(page: AppTest) -> None:
    assert "Source: the sidecar, as seen by this page. Prometheus is not running" in said(page)


def test_a_rate_is_drawn_over_the_time_it_was_measured_in_and_a_position_until_the_next(page: AppTest) -> None:
    assert eventually(lambda: len(page.run().get("vega_lite_chart")) == 2)
    marks = [json.loads(chart.proto.spec)["layer"][0]["mark"] for chart in page.get("vega_lite_chart")]
    assert [(mark["type"], mark["interpolate"]) for mark in marks] == [("area", "step-before"), ("line", "step-after")]


def test_a_page_opened_while_a_flow_runs_can_send_a_burst_after_it_was_stopped(page: AppTest) -> None:
    press(page, "Start")
    other = open_page()
    press(page, "Stop")
    press(other, "Burst")
    assert not other.exception


def test_two_pages_share_tape_and_flow(page: AppTest) -> None:
    press(page, "Buy")
    press(page, "Start")
    other = show(open_page(), "My trades")
    assert column(other, "Side") == [":green[buy]"]
    press(other, "Stop")
    assert "Start" in [button.label for button in page.run().button]


def test_a_flow_has_what_the_fields_say_and_they_show_it_while_it_runs(page: AppTest, sidecar: FakeSidecar) -> None:
    page.selectbox(key="rate").set_value(100)
    page.selectbox(key="buys").set_value(0)
    page.multiselect(key="symbols").set_value(["ETH-USD"])
    press(page, "Start")
    trades = [sidecar.receive() for _ in range(20)]
    assert {(trade["side"], trade["symbol"]) for trade in trades} == {("sell", "ETH-USD")}
    assert page.selectbox(key="running-rate").value == 100
    assert page.multiselect(key="running-symbols").value == ["ETH-USD"]
    assert page.selectbox(key="running-buys").disabled
    press(page, "Stop")
    assert page.selectbox(key="rate").value == 100, "kept while it ran"


def test_the_fastest_flow_is_100_000_per_second(page: AppTest) -> None:
    assert page.selectbox(key="rate").options[-1] == "100,000"


def test_while_a_flow_runs_the_page_tells_what_it_asks_of_the_publisher(page: AppTest) -> None:
    assert metrics(page)["Time per call"] == NONE
    page.selectbox(key="rate").set_value(100)
    press(page, "Start")
    assert eventually(lambda: metrics(page.run())["Calls of publish()"] != NONE)
    assert metrics(page)["Calls of publish()"].endswith("/s")
    assert metrics(page)["Time per call"].endswith(("µs", "ms"))
    press(page, "Stop")


def test_a_burst_is_sent_at_once_with_the_mix_of_the_fields(page: AppTest, sidecar: FakeSidecar) -> None:
    page.selectbox(key="buys").set_value(100)
    press(page, "Burst")
    assert {sidecar.receive()["side"] for _ in range(1000)} == {"buy"}


def test_a_symbol_that_is_none_starts_no_flow(page: AppTest) -> None:
    page.multiselect(key="symbols").set_value(["a b"])
    press(page, "Start")
    assert "symbol must be 1 to 32 of" in page.toast[0].value
    assert "Start" in [button.label for button in page.button]
