"""The page, run in Streamlit's test harness without a browser."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from app_process import METRICS, FakeSidecar, eventually
from streamlit.testing.v1 import AppTest

import trading_app.ui
from trading_app.messages import SIDES, Side
from trading_app.ui import clicks, desk, positions, ticket
from trading_app.ui.fields import problem, read_symbol
from trading_app.ui.formatting import moment
from trading_app.ui.numbers import NONE
from trading_app.ui.poller import Snapshot

pytestmark = pytest.mark.slow

PAGE = str(Path(trading_app.ui.__file__).parent / "page.py")
BTC = {"side": "buy", "qty": 1.5, "ts": 100.0, "received_at": 100.25, "symbol": "BTC-USD", "price": 64250.5}


def plain_buttons(_symbol: str) -> list[Side]:
    """Streamlit's own buttons: its harness cannot press components. The browser tests press the real buttons."""
    return [side for side in SIDES if st.button(side.capitalize())]


@pytest.fixture
def page(sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    for key, value in sidecar.environ.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(ticket, "draw_buttons", plain_buttons)
    # This harness clicks faster than a person.
    monkeypatch.setattr(clicks, "REPEATED_SECONDS", 0.0)
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
    """All text on the page."""
    return " ".join(element.value for element in (*page.success, *page.warning, *page.error, *page.markdown))


def hint(page: AppTest) -> str:
    return " ".join(element.proto.body for element in page.get("html") if "hint" in element.proto.body)


def test_a_press_publishes_a_trade_with_the_default_symbol_and_quantity(page: AppTest, sidecar: FakeSidecar) -> None:
    press(page, "Buy")
    trade = sidecar.receive()
    assert (trade["side"], trade["qty"], trade["symbol"]) == ("buy", 1.0, "BTC-USD")
    assert "price" not in trade
    assert (column(page, "Side"), column(page, "Quantity")) == ([":green[buy]"], ["1"])
    assert not page.error


def test_a_trade_that_the_sidecar_counts_is_shown_as_counted_at_once(
    page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PATIENCE", 30.0)
    press(page, "Buy")
    assert column(page, "State") == [":green[counted]"]


def test_presses_that_arrive_together_are_shown_as_counted_at_once(
    page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PATIENCE", 30.0)
    for button in page.button:
        if button.label in {"Buy", "Sell"}:
            button.click()
    page.run()
    assert column(page, "State") == [":green[counted]"] * 2


def test_a_trade_has_symbol_quantity_and_price_of_the_ticket(page: AppTest, sidecar: FakeSidecar) -> None:
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


def test_a_new_page_starts_with_the_last_symbol(page: AppTest) -> None:
    page.selectbox(key="symbol").set_value("ETH-USD").run()
    assert open_page().selectbox(key="symbol").value == "ETH-USD"


def test_choosing_a_symbol_does_not_change_other_open_pages(page: AppTest) -> None:
    other = open_page()
    other.selectbox(key="symbol").set_value("ETH-USD").run()
    assert page.run().selectbox(key="symbol").value == "BTC-USD"


def test_the_ticket_offers_traded_symbols(page: AppTest, sidecar: FakeSidecar) -> None:
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
def test_an_invalid_field_has_a_hint_and_nothing_is_sent(
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


def test_a_press_after_the_publisher_has_failed_is_refused_with_the_reason(page: AppTest) -> None:
    desk.shared_desk().close()
    press(page, "Buy")
    assert [toast.value for toast in page.toast] == ["Nothing was sent: the publisher is closed."]
    assert not page.exception


def test_an_invalid_symbol_has_a_hint() -> None:
    assert "symbol must be 1 to 32 characters from" in problem(read_symbol, "a b")
    assert problem(read_symbol, "") == ""


@pytest.mark.parametrize("quantity, shown", [("1234567.5", "1,234,567.5"), ("0.1234567", "0.1234567"), ("100", "100")])
def test_the_tape_shows_quantities_unrounded(page: AppTest, quantity: str, shown: str) -> None:
    page.text_input(key="quantity").set_value(quantity)
    press(page, "Buy")
    assert column(page, "Quantity") == [shown]


def test_a_trade_changes_from_waiting_to_counted_with_the_time_until_then(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    press(page, "Buy")
    show(page, "My trades")
    assert column(page, "State") == [":blue-badge[waiting]"]
    sidecar.commits = True
    assert eventually(lambda: column(page.run(), "State") == [":green[counted]"])
    assert column(page, "Confirmed")[0].endswith(("ms", "s"))


def test_the_tape_shows_trades_of_all_publishers(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.counted = [
        {**BTC, "session": "theirs", "seq": 1},
        {"side": "sell", "qty": 2, "ts": 99, "received_at": 99.001},
    ]
    assert eventually(lambda: len(column(page.run(), "Side")) == 2)
    assert column(page, "Symbol") == ["BTC-USD", NONE]
    assert column(page, "Price") == ["64,250.5", NONE]
    assert column(page, "Delivery") == ["250 ms", "1 ms"]
    assert column(page, "State") == ["", ""]


def test_symbols_with_unpriced_trades_are_named_below_the_positions(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.counted = [{"side": "sell", "qty": 2, "ts": 99, "received_at": 99.001}]
    expected = ":small[No averages and profit where some trades carry no price: (no symbol).]"
    assert eventually(lambda: expected in [text.value for text in page.run().markdown])


def test_a_refusal_that_a_rerun_interrupted_is_shown_by_the_next_run(page: AppTest) -> None:
    page.session_state["refusals"] = ["Nothing was sent: the disk is full."]
    assert [toast.value for toast in page.run().toast] == ["Nothing was sent: the disk is full."]
    assert not page.run().toast


def test_my_trades_shows_only_trades_of_this_page_newest_first(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.counted = [{**BTC, "session": "theirs", "seq": 1}]
    press(page, "Buy")
    press(page, "Sell")
    show(page, "My trades")
    assert column(page, "Side") == [":red[sell]", ":green[buy]"]


def test_positions_have_one_row_per_symbol(page: AppTest, sidecar: FakeSidecar) -> None:
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


def test_key_figures_come_from_the_sidecar(page: AppTest) -> None:
    shown = metrics(page)
    assert (shown[":green[Buy trades]"], shown[":red[Sell trades]"]) == ("3", "1")
    assert shown["Last trade"] == moment(1790000000.5, time.time())
    assert "**Live**" in said(page)
    assert ":green-badge[idle]" in said(page)


def test_while_the_sidecar_is_away_the_page_keeps_the_last_figures_and_says_so(
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


def test_a_page_opened_without_a_sidecar_shows_dashes(absent: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in absent.environ.items():
        monkeypatch.setenv(key, value)
    page = open_page()
    assert set(metrics(page).values()) == {NONE}
    assert "**Sidecar away**" in said(page)
    assert not page.exception
    st.cache_resource.clear()


def test_without_prometheus_the_caption_names_another_source(page: AppTest) -> None:
    assert "Source: the sidecar, as seen by this page. Prometheus is not running" in said(page)


def test_rates_step_before_their_point_and_positions_after_it(page: AppTest) -> None:
    assert eventually(lambda: len(page.run().get("vega_lite_chart")) == 2)
    marks = [json.loads(chart.proto.spec)["layer"][0]["mark"] for chart in page.get("vega_lite_chart")]
    assert [(mark["type"], mark["interpolate"]) for mark in marks] == [("area", "step-before"), ("line", "step-after")]


def test_a_page_opened_during_a_flow_can_send_a_burst_after_the_flow_stopped(page: AppTest) -> None:
    press(page, "Start")
    other = open_page()
    press(page, "Stop")
    press(other, "Burst")
    assert not other.exception


def test_a_click_that_streamlit_repeats_counts_once(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    press(page, "Start")
    monkeypatch.setattr(clicks, "REPEATED_SECONDS", 60.0)
    press(page, "Stop")
    assert "Stop" in [button.label for button in page.button], "the same click as Start"
    press(page, "More")
    assert "Less" in [button.label for button in page.button], "a click on another button"
    monkeypatch.setattr(clicks, "REPEATED_SECONDS", 0.0)
    press(page, "Stop")
    assert "Start" in [button.label for button in page.button]


def test_a_click_after_an_interrupted_redraw_counts(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clicks, "REPEATED_SECONDS", 60.0)
    draw, interruptions = positions.draw_positions, iter([True])

    def draw_interrupted(snapshot: Snapshot) -> None:
        if next(interruptions, False):
            st.rerun()
        draw(snapshot)

    monkeypatch.setattr(positions, "draw_positions", draw_interrupted)
    press(page, "Start")
    press(page, "Stop")
    assert "Start" in [button.label for button in page.button]


def test_pages_share_their_trades_and_the_flow(page: AppTest) -> None:
    press(page, "Buy")
    press(page, "Start")
    other = show(open_page(), "My trades")
    assert column(other, "Side") == [":green[buy]"]
    press(other, "Stop")
    assert "Start" in [button.label for button in page.run().button]


def test_a_flow_takes_its_settings_from_the_fields_and_shows_them(page: AppTest, sidecar: FakeSidecar) -> None:
    page.selectbox(key="rate").set_value(100)
    page.selectbox(key="buys").set_value(0)
    page.multiselect(key="symbols").set_value(["ETH-USD"])
    press(page, "Start")
    trades = [sidecar.receive() for _ in range(20)]
    assert {(trade["side"], trade["symbol"]) for trade in trades} == {("sell", "ETH-USD")}
    assert page.selectbox(key="rate").value == 100
    assert page.multiselect(key="symbols").value == ["ETH-USD"]
    assert page.selectbox(key="buys").disabled
    press(page, "Stop")
    assert page.selectbox(key="rate").value == 100, "kept while the flow ran"


def test_the_fastest_flow_is_100_000_per_second(page: AppTest) -> None:
    assert page.selectbox(key="rate").options[-1] == "100,000"


def test_a_running_flow_shows_its_load_on_the_publisher(page: AppTest) -> None:
    assert metrics(page)["Time per call"] == NONE
    page.selectbox(key="rate").set_value(100)
    press(page, "Start")
    assert eventually(lambda: metrics(page.run())["Calls of publish()"] != NONE)
    assert metrics(page)["Calls of publish()"].endswith("/s")
    assert metrics(page)["Time per call"].endswith(("µs", "ms"))
    press(page, "Stop")


def test_a_burst_has_the_mix_in_the_fields(page: AppTest, sidecar: FakeSidecar) -> None:
    page.selectbox(key="buys").set_value(100)
    press(page, "Burst")
    assert {sidecar.receive()["side"] for _ in range(1000)} == {"buy"}


def test_an_invalid_symbol_starts_no_flow(page: AppTest) -> None:
    page.multiselect(key="symbols").set_value(["a b"])
    press(page, "Start")
    assert "symbol must be 1 to 32 characters from" in page.toast[0].value
    assert "Start" in [button.label for button in page.button]
