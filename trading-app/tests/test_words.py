"""How numbers, times and the neighbours' addresses read."""

import pytest

from trading_app.totals import Totals
from trading_app.ui.chart import columns
from trading_app.ui.history import Point
from trading_app.ui.loop import from_the_browser
from trading_app.ui.numbers import numbers
from trading_app.ui.watch import View
from trading_app.ui.words import ago, duration, number, rounded


@pytest.mark.parametrize(
    "value, text",
    [(1234567.5, "1,234,567.5"), (0.1234567, "0.1234567"), (100.0, "100"), (0.0, "0"), (-0.0, "0"), (1e-9, "1e-09")],
)
def test_a_number_has_all_its_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("value, text", [(2.345, "2.35"), (-0.001, "0"), (1000.0, "1,000"), (-64.333, "-64.33")])
def test_a_rounded_one_has_two_decimals(value: float, text: str) -> None:
    assert rounded(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (-0.5, "0 ms"),
        (0.000824, "0.824 ms"),
        (0.0678, "67.8 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1 s"),
        (4.06, "4.06 s"),
        (59.96, "1 min 0 s"),
        (125.0, "2 min 5 s"),
        (7260.0, "2 h 1 min"),
        (5 * 86400 + 3600, "5 d 1 h"),
    ],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("seconds, text", [(-1.0, "now"), (0.9, "now"), (1.9, "1 s ago"), (61.0, "1 min 1 s ago")])
def test_how_long_ago_ticks_in_seconds(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_every_number_stands_under_its_name() -> None:
    totals = Totals({"buy": 3.0, "sell": 1.0}, {"buy": 4.5, "sell": 6.75}, 95.0, 0.0, {})
    view = View(totals=totals, rates={"buy": 1.5, "sell": 0.5}, p50=0.001, p99=0.02)
    assert dict(numbers(view, now=100.0)) == {
        ":green[Buy trades]": "3",
        ":green[Buy volume]": "4.5",
        "Net position": "-2.25",
        ":red[Sell trades]": "1",
        ":red[Sell volume]": "6.75",
        "Last trade": "5 s ago",
        "Trades a second": "2",
        "Delivery p50": "1 ms",
        "Delivery p99": "20 ms",
    }


def test_what_is_not_known_is_a_dash() -> None:
    assert {value for _, value in numbers(View(), now=100.0)} == {"-"}


def test_the_charts_go_from_the_past_to_now() -> None:
    points = (Point(40.0, {"buy": 1.0, "sell": 2.0}, 3.0), Point(100.0, {"buy": 4.0, "sell": 5.0}, 6.0))
    assert columns(View(asked_at=100.0, points=points)) == {
        "minutes": [-1.0, 0.0],
        "buy": [1.0, 4.0],
        "sell": [2.0, 5.0],
        "position": [3.0, 6.0],
    }


@pytest.mark.parametrize(
    "url, page, reached",
    [
        ("http://localhost:9090", "http://desk.example:8501/", "http://desk.example:9090"),
        ("http://prometheus:9090", "http://10.0.0.5:8501/", "http://10.0.0.5:9090"),
        ("http://localhost:8001/metrics", "http://[::1]:8501/", "http://[::1]:8001/metrics"),
        ("https://grafana.example/x", "http://desk.example:8501/", "https://grafana.example/x"),
        ("http://127.0.0.1:9090", "http://desk.example:8501/", "http://127.0.0.1:9090"),
        ("http://localhost:9090", None, "http://localhost:9090"),
    ],
)
def test_a_neighbour_without_a_domain_lives_where_the_page_does(url: str, page: str | None, reached: str) -> None:
    assert from_the_browser(url, page) == reached
