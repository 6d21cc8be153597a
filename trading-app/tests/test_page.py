"""The page, run by Streamlit without a browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from app_process import FakeSidecar, eventually
from streamlit.testing.v1 import AppTest

import trading_app.ui

PAGE = str(Path(trading_app.ui.__file__).parent / "page.py")


@pytest.fixture
def page(sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    for key, value in sidecar.environ.items():
        monkeypatch.setenv(key, value)
    yield AppTest.from_file(PAGE, default_timeout=30).run()
    st.cache_resource.clear()


def press(page: AppTest, label: str) -> AppTest:
    (button,) = (button for button in page.button if button.label == label)
    return button.click().run()


def column(page: AppTest, name: str) -> list[str]:
    """A column of the log; empty while there is no log."""
    return [str(cell) for cell in page.table[0].value[name]] if page.table else []


def metrics(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def said(page: AppTest) -> str:
    """What the loop says in words."""
    return " ".join(element.value for element in (*page.success, *page.warning, *page.error))


def test_a_click_sends_a_trade_of_1_and_logs_it(page: AppTest, sidecar: FakeSidecar) -> None:
    press(page, "Buy")
    trade = sidecar.receive()
    assert (trade["side"], trade["qty"]) == ("buy", 1.0)
    assert (column(page, "Side"), column(page, "Quantity")) == ([":green[buy]"], ["1"])
    assert not page.error


def test_the_newest_trade_stands_first(page: AppTest, sidecar: FakeSidecar) -> None:
    press(page, "Buy")
    page.text_input[0].set_value("2.5")
    press(page, "Sell")
    assert [sidecar.receive()["qty"] for _ in range(2)] == [1.0, 2.5]
    assert column(page, "Side") == [":red[sell]", ":green[buy]"]


@pytest.mark.parametrize(
    "quantity, reason",
    [
        ("0", "at most 1e+12, not 0"),
        ("-2", "at most 1e+12, not -2"),
        ("nan", "a number such as 2.5, not 'nan'"),
        ("1_000", "a number such as 2.5, not '1_000'"),
        ("\u0661", "a number such as 2.5, not"),
        ("1e999", "at most 1e+12, not inf"),
        ("", "a number such as 2.5, not ''"),
        ("2,5", "a number such as 2.5, not '2,5'"),
        ("much", "a number such as 2.5, not 'much'"),
    ],
)
def test_a_quantity_that_makes_no_trade_is_refused(
    page: AppTest, sidecar: FakeSidecar, quantity: str, reason: str
) -> None:
    page.text_input[0].set_value(quantity)
    press(page, "Buy")
    assert reason in page.toast[0].value
    assert not page.table
    assert sidecar.is_silent()


@pytest.mark.parametrize("quantity, shown", [("1234567.5", "1,234,567.5"), ("0.1234567", "0.1234567"), ("100", "100")])
def test_a_quantity_is_shown_with_all_its_digits(page: AppTest, quantity: str, shown: str) -> None:
    page.text_input[0].set_value(quantity)
    press(page, "Buy")
    assert column(page, "Quantity") == [shown]


def test_a_trade_in_the_log_turns_from_waiting_to_delivered_with_how_long_that_took(
    page: AppTest, sidecar: FakeSidecar
) -> None:
    sidecar.commits = False
    press(page, "Buy")
    assert column(page, "State") == ["waiting"]
    sidecar.commits = True
    assert eventually(lambda: column(page.run(), "State")[0].startswith("delivered in"))


def test_the_numbers_are_those_of_the_side_car(page: AppTest) -> None:
    shown = metrics(page)
    assert (shown[":green[Buy trades]"], shown[":red[Sell trades]"]) == ("3", "1")
    assert (shown[":green[Buy volume]"], shown[":red[Sell volume]"], shown["Net position"]) == ("4.5", "2", "2.5")
    assert shown["Last trade"].endswith(" ago")
    assert said(page).startswith("**All is well.**")


def test_while_the_side_car_is_away_the_page_says_so_and_keeps_the_last_numbers(
    page: AppTest, sidecar: FakeSidecar
) -> None:
    sidecar.close()
    for _ in range(3):
        press(page, "Buy")
    assert eventually(lambda: "The side-car is away" in said(page.run()))
    assert "3 trades wait here" in said(page)
    assert "as of" in said(page)
    assert metrics(page)[":green[Buy trades]"] == "3"
    assert column(page, "State") == ["waiting"] * 3
    assert not page.exception
    sidecar.open()
    assert eventually(lambda: "All is well" in said(page.run()))
    assert eventually(lambda: all(state.startswith("delivered") for state in column(page.run(), "State")))


def test_a_page_opened_without_a_side_car_has_no_numbers_yet(
    absent: FakeSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in absent.environ.items():
        monkeypatch.setenv(key, value)
    page = AppTest.from_file(PAGE, default_timeout=30).run()
    assert set(metrics(page).values()) == {"-"}
    assert "The side-car is away" in said(page)
    assert not page.exception
    st.cache_resource.clear()


def test_without_prometheus_the_chart_says_what_it_shows(page: AppTest) -> None:
    assert any("As seen by this page, as Prometheus is away" in text.value for text in page.markdown)


def test_a_rate_is_drawn_over_the_time_it_was_measured_in(page: AppTest) -> None:
    rates, position = (json.loads(chart.proto.spec)["mark"] for chart in page.get("vega_lite_chart"))
    assert (rates["interpolate"], position["interpolate"]) == ("step-before", "linear")


def test_a_page_opened_while_a_flow_runs_can_send_a_burst_after_it_was_stopped(page: AppTest) -> None:
    press(page, "Start")
    other = AppTest.from_file(PAGE, default_timeout=30).run()
    press(page, "Stop")
    press(other, "Burst of 1,000")
    assert not other.exception


def test_two_pages_share_log_and_flow(page: AppTest) -> None:
    press(page, "Buy")
    press(page, "Start")
    other = AppTest.from_file(PAGE, default_timeout=30).run()
    assert column(other, "Side") == [":green[buy]"]
    press(other, "Stop")
    assert "Start" in [button.label for button in page.run().button]


def test_a_flow_has_the_rate_and_the_mix_of_the_sliders(page: AppTest, sidecar: FakeSidecar) -> None:
    page.select_slider(key="rate").set_value(100)
    page.slider(key="buys").set_value(0)
    press(page, "Start")
    assert {sidecar.receive()["side"] for _ in range(20)} == {"sell"}
    assert page.select_slider(key="running rate").value == 100
    assert page.slider(key="running buys").disabled
    press(page, "Stop")


def test_a_burst_is_sent_at_once_with_the_mix_of_the_sliders(page: AppTest, sidecar: FakeSidecar) -> None:
    page.slider(key="buys").set_value(100)
    press(page, "Burst of 1,000")
    assert {sidecar.receive()["side"] for _ in range(1000)} == {"buy"}


def test_the_log_has_the_last_ten(page: AppTest) -> None:
    for quantity in range(1, 13):
        page.text_input[0].set_value(str(quantity))
        press(page, "Buy")
    assert column(page, "Quantity") == [str(quantity) for quantity in range(12, 2, -1)]
