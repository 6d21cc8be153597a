"""How numbers, times, charts and the neighbours' addresses read."""

import pytest

from trading_app.totals import SideTotals, Totals
from trading_app.ui.chart import rates_table, values_table
from trading_app.ui.formatting import ago, duration, number, per_second, rounded
from trading_app.ui.history import Point, Value
from trading_app.ui.numbers import NONE, numbers
from trading_app.ui.poller import Snapshot
from trading_app.ui.status import from_the_browser


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
        (-0.5, "0 µs"),
        (0.0000014, "1.4 µs"),
        (0.000824, "824 µs"),
        (0.0009996, "1 ms"),
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


@pytest.mark.parametrize("rate, text", [(0.0, "0/s"), (9.876, "9.88/s"), (99_999.6, "100,000/s")])
def test_a_rate_is_per_second(rate: float, text: str) -> None:
    assert per_second(rate) == text


def test_every_number_stands_under_its_name() -> None:
    totals = Totals({"": {"buy": SideTotals(3.0), "sell": SideTotals(1.0)}}, 95.0, 0.0, {})
    snapshot = Snapshot(totals=totals, rates={"buy": 1.5, "sell": 0.5}, p50=0.001, p99=0.02)
    assert dict(numbers(snapshot, now=100.0)) == {
        ":green[Buy trades]": "3",
        ":red[Sell trades]": "1",
        "Rate": "2/s",
        "Last trade": "5 s ago",
        "Delivery p50": "1 ms",
        "Delivery p99": "20 ms",
    }


def test_what_is_not_known_is_a_dash() -> None:
    assert {value for _, value in numbers(Snapshot(), now=100.0)} == {NONE}


def test_buys_are_drawn_above_and_sells_below_so_that_a_burst_does_not_flatten_the_rest() -> None:
    points = [Point(40.0, {"buy": 0.5, "sell": 10.0}), Point(100.0, {"buy": 100_000.0, "sell": 0.0})]
    rows = rates_table(points, now=100.0).to_pylist()
    assert [(row["side"], row["magnitude"]) for row in rows] == [
        ("buy", 0.5), ("buy", 6.0), ("sell", -2.0), ("sell", 0.0),
    ]  # fmt: skip
    assert [(row["buy"], row["sell"]) for row in rows] == [(0.5, 10.0), (100_000.0, 0.0)] * 2
    assert [row["at"].timestamp() for row in rows] == [40.0, 100.0] * 2


def test_before_anybody_has_looked_the_chart_has_a_time_axis_all_the_same() -> None:
    assert [row["at"].timestamp() for row in rates_table([], now=100.0).to_pylist()] == [90.0, 100.0] * 2


def test_a_value_on_an_axis_has_no_noise() -> None:
    assert values_table([Value(40.0, 0.1 + 0.2 - 0.3)]).to_pylist()[0]["value"] == 0.0


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
