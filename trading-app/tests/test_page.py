"""The page, run by Streamlit without a browser."""

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


def test_a_click_sends_a_trade_of_1_and_logs_it(page: AppTest, sidecar: FakeSidecar) -> None:
    press(page, "Buy")
    trade = sidecar.receive()
    assert (trade["side"], trade["qty"]) == ("buy", 1.0)
    assert page.table[0].value[["Side", "Quantity"]].to_numpy().tolist() == [["buy", "1"]]
    assert not page.error


def test_the_newest_trade_stands_first(page: AppTest, sidecar: FakeSidecar) -> None:
    press(page, "Buy")
    page.text_input[0].set_value("2.5")
    press(page, "Sell")
    assert [sidecar.receive()["qty"] for _ in range(2)] == [1.0, 2.5]
    assert page.table[0].value["Side"].to_list() == ["sell", "buy"]


@pytest.mark.parametrize(
    "quantity, reason",
    [
        ("0", "above 0, not 0"),
        ("-2", "above 0, not -2"),
        ("nan", "above 0, not nan"),
        ("1e999", "above 0, not inf"),
        ("", "a number such as 2.5, not ''"),
        ("2,5", "a number such as 2.5, not '2,5'"),
        ("much", "a number such as 2.5, not 'much'"),
    ],
)
def test_a_quantity_that_makes_no_trade_is_refused_on_the_page(
    page: AppTest, sidecar: FakeSidecar, quantity: str, reason: str
) -> None:
    page.text_input[0].set_value(quantity)
    press(page, "Buy")
    assert reason in page.error[0].value
    assert not page.table
    assert sidecar.is_silent()


@pytest.mark.parametrize("quantity, shown", [("1234567.5", "1,234,567.5"), ("0.1234567", "0.1234567"), ("100", "100")])
def test_a_quantity_is_shown_with_all_its_digits(page: AppTest, quantity: str, shown: str) -> None:
    page.text_input[0].set_value(quantity)
    press(page, "Buy")
    assert page.table[0].value["Quantity"].to_list() == [shown]


def test_trades_that_a_side_car_does_not_commit_are_said_to_wait(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    press(page, "Buy")
    assert any("1 trade waits" in caption.value for caption in page.caption)


def test_two_pages_share_one_log(page: AppTest, sidecar: FakeSidecar) -> None:
    press(page, "Buy")
    sidecar.receive()
    assert AppTest.from_file(PAGE, default_timeout=30).run().table[0].value["Side"].to_list() == ["buy"]


def test_while_the_side_car_is_away_the_page_says_how_many_wait(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.close()
    for _ in range(3):
        press(page, "Buy")
    assert eventually(lambda: "3 trades wait" in "".join(warning.value for warning in page.run().warning))
    assert page.table[0].value["State"].to_list() == ["waiting"] * 3
    assert not page.exception


def test_a_trade_in_the_log_turns_from_waiting_to_delivered(page: AppTest, sidecar: FakeSidecar) -> None:
    sidecar.commits = False
    press(page, "Buy")
    assert page.table[0].value["State"].to_list() == ["waiting"]
    sidecar.commits = True
    assert eventually(lambda: page.run().table[0].value["State"].to_list() == ["delivered"])
