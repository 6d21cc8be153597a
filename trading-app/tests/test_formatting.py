"""Formatting of numbers, times, chart data and addresses."""

import pytest

from trading_app.totals import SideTotals, Totals
from trading_app.ui.chart import rates_table, values_table
from trading_app.ui.formatting import clock, duration, moment, number, per_second, rounded
from trading_app.ui.history import Point, Value
from trading_app.ui.numbers import NONE, numbers
from trading_app.ui.poller import Snapshot
from trading_app.ui.status import from_the_browser


@pytest.mark.parametrize(
    "value, text",
    [(1234567.5, "1,234,567.5"), (0.1234567, "0.1234567"), (100.0, "100"), (0.0, "0"), (-0.0, "0"), (1e-9, "1e-09")],
)
def test_a_number_keeps_its_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("value, text", [(2.345, "2.35"), (-0.001, "0"), (1000.0, "1,000"), (-64.333, "-64.33")])
def test_a_rounded_number_has_at_most_two_decimals(value: float, text: str) -> None:
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
def test_a_duration_has_a_fitting_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_moment_is_a_time_today_and_a_date_before() -> None:
    now = 1_790_000_000.0
    assert moment(now, now) == clock(now)
    assert moment(now - 3 * 86400, now) in {"2026-09-18", "2026-09-19"}, "in any time zone"


@pytest.mark.parametrize("rate, text", [(0.0, "0/s"), (9.876, "9.88/s"), (99_999.6, "100,000/s")])
def test_a_rate_has_two_decimals_below_100(rate: float, text: str) -> None:
    assert per_second(rate) == text


def test_key_figures_have_labels() -> None:
    totals = Totals({"": {"buy": SideTotals(3.0), "sell": SideTotals(1.0)}}, 95.0, 0.0, {})
    snapshot = Snapshot(totals=totals, rates={"buy": 1.5, "sell": 0.5}, p50=0.001, p99=0.02)
    assert dict(numbers(snapshot, now=100.0)) == {
        ":green[Buy trades]": "3",
        ":red[Sell trades]": "1",
        "Rate": "2/s",
        "Last trade": clock(95.0),
        "Delivery p50": "1 ms",
        "Delivery p99": "20 ms",
    }


def test_unknown_figures_are_dashes() -> None:
    assert {value for _, value in numbers(Snapshot(), now=100.0)} == {NONE}


def test_buys_are_above_and_sells_below_on_a_scale_that_a_burst_does_not_flatten() -> None:
    points = [Point(40.0, {"buy": 0.5, "sell": 10.0}), Point(100.0, {"buy": 100_000.0, "sell": 0.0})]
    rows = rates_table(points, now=100.0).to_pylist()
    assert [(row["side"], row["magnitude"]) for row in rows] == [
        ("buy", 0.5), ("buy", 6.0), ("sell", -2.0), ("sell", 0.0),
    ]  # fmt: skip
    assert [(row["buy"], row["sell"]) for row in rows] == [(0.5, 10.0), (100_000.0, 0.0)] * 2
    assert [row["at"].timestamp() for row in rows] == [40.0, 100.0] * 2


def test_without_points_the_chart_still_has_a_time_axis() -> None:
    assert [row["at"].timestamp() for row in rates_table([], now=100.0).to_pylist()] == [90.0, 100.0] * 2


def test_values_have_no_rounding_noise() -> None:
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
def test_a_host_name_without_a_dot_becomes_the_host_of_the_page(url: str, page: str | None, reached: str) -> None:
    assert from_the_browser(url, page) == reached
