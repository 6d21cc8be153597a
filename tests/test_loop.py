"""The loop on real programs: from a click in the browser to a number in Prometheus."""

import re
import time
from collections.abc import Callable
from urllib.request import Request, urlopen

import pytest
from harness.databases import Prometheus
from harness.page import button, metric, rows, tape
from harness.program import is_gone
from harness.tools import replace
from harness.waiting import eventually, get
from harness.workspace import Honcho, Workspace
from playwright.sync_api import Page, expect

type Start = Callable[..., Honcho]
type Open = Callable[[], Page]


def counted_at(workspace: Workspace, sample: str) -> float:
    """Wait until the sidecar serves the sample, and return the Unix time."""
    assert eventually(lambda: sample in get(workspace.metrics)), sample
    return time.time()


def is_scraped_next(prometheus: Prometheus, after: float, series: str, value: float) -> bool:
    """Whether no scrape after that Unix time is without the value."""
    assert eventually(lambda: prometheus.value(series) == value), (series, prometheus.value(series))
    first = min(at for at, seen in prometheus.samples(series) if seen == value)
    return not any(up and after < at < first for at, up in prometheus.samples('up{job="metrics-sidecar"}'))


def test_a_click_on_the_page_is_counted_and_in_the_next_scrape(
    workspace: Workspace, honcho: Start, prometheus: Prometheus, page: Open
) -> None:
    honcho()
    desk = page()
    assert eventually(lambda: prometheus.value('sum(trades_total{side="buy"})') == 0)
    assert prometheus.value('sum(trades_total{side="sell"})') == 0

    desk.get_by_label("Quantity").fill("3")
    clicked = time.time()
    button(desk, "Buy").click()
    bought = counted_at(workspace, 'trades_total{side="buy",symbol="BTC-USD"} 1.0')
    assert is_scraped_next(prometheus, bought, 'trades_total{side="buy",symbol="BTC-USD"}', 1)
    assert is_scraped_next(prometheus, bought, 'volume_total{side="buy",symbol="BTC-USD"}', 3)
    assert clicked <= (prometheus.value("last_trade_ts_seconds") or 0) <= bought

    button(desk, "Sell").click()
    sold = counted_at(workspace, 'trades_total{side="sell",symbol="BTC-USD"} 1.0')
    assert is_scraped_next(prometheus, sold, 'trades_total{side="sell",symbol="BTC-USD"}', 1)
    assert prometheus.value('sum(volume_total{side="sell"})') == 3
    assert prometheus.value('sum(trades_total{side="buy"})') == 1

    expect(metric(desk, "Buy trades")).to_have_text("1")
    expect(metric(desk, "Sell trades")).to_have_text("1")
    expect(rows(desk).filter(has_text="counted")).to_have_count(2)
    assert prometheus.value("sidecar_trades_duplicate_total") == 0


def test_prometheus_reconciles_published_trades_with_counted_trades(
    workspace: Workspace, honcho: Start, prometheus: Prometheus
) -> None:
    """Page and API are targets from their start. Trades published while the sidecar is down wait, then are counted."""
    sidecar = honcho("sidecar")
    assert eventually(workspace.sidecar_is_up)
    programs = honcho("ui", "api")
    assert eventually(lambda: workspace.page_is_up() and workspace.api_is_up(), timeout=60), programs.output
    prometheus.set_targets("trading-app", f"127.0.0.1:{workspace.ui_port}", f"127.0.0.1:{workspace.api_port}")

    def numbers() -> list[float | None]:
        names = "publisher_trades_total", "sidecar_trades_tracked_total", "publisher_pending_trades"
        return [prometheus.value(f"sum({name})") for name in names]

    def trade(times: int) -> None:
        for _ in range(times):
            urlopen(Request(f"{workspace.api}/trade/buy", method="POST"), timeout=10).close()

    assert eventually(lambda: prometheus.value("count(publisher_trades_total)") == 2)
    trade(3)
    assert eventually(lambda: numbers() == [3, 3, 0]), numbers()
    sidecar.ctrl_c()
    trade(2)
    assert eventually(lambda: numbers()[::2] == [5, 2]), numbers()
    honcho("sidecar")
    assert eventually(lambda: numbers() == [5, 5, 0], timeout=60), numbers()


def test_the_programs_start_after_the_sidecar_and_ctrl_c_ends_all_of_them(workspace: Workspace, honcho: Start) -> None:
    stack = honcho()
    assert eventually(workspace.page_is_up), stack.output
    assert eventually(workspace.api_is_up), stack.output
    assert workspace.sidecar_is_up()
    assert len(stack.groups) == 3
    stack.ctrl_c()
    assert eventually(lambda: all(map(is_gone, stack.groups)))
    assert "Traceback" not in stack.output


def test_the_sidecar_reloads_a_changed_source_file(workspace: Workspace, honcho: Start) -> None:
    honcho("sidecar")
    assert eventually(workspace.sidecar_is_up)
    replace(workspace.folder / "metrics-sidecar/src/metrics_sidecar/exposition.py", "Trades counted.", "Trades told.")
    assert eventually(lambda: "# HELP trades_total Trades told." in get(workspace.metrics))


@pytest.mark.long
def test_the_sidecar_recovers_from_a_source_file_with_a_syntax_error(workspace: Workspace, honcho: Start) -> None:
    stack = honcho("sidecar")
    assert eventually(workspace.sidecar_is_up)
    source = workspace.folder / "metrics-sidecar/src/metrics_sidecar/exposition.py"
    replace(source, "Trades counted.", 'Trades"told.')
    assert eventually(lambda: "SyntaxError" in stack.output)
    replace(source, 'Trades"told.', "Trades told.")
    assert eventually(lambda: "# HELP trades_total Trades told." in get(workspace.metrics))


@pytest.mark.long
def test_the_page_reloads_a_changed_source_file(workspace: Workspace, honcho: Start, page: Open) -> None:
    honcho()
    desk = page()
    button(desk, "Buy").click()
    expect(tape(desk)).to_contain_text("buy")
    replace(workspace.folder / "trading-app/src/trading_app/ui/tape.py", '"My trades"', '"My own"')
    expect(desk.get_by_text("My own")).to_be_visible(timeout=60_000)
    button(desk, "Sell").click()
    assert eventually(lambda: 'trades_total{side="sell",symbol="BTC-USD"} 1.0' in get(workspace.metrics))


@pytest.mark.long
def test_the_page_reloads_a_changed_module_that_it_imports(workspace: Workspace, honcho: Start, page: Open) -> None:
    stack = honcho("sidecar", "ui")
    assert eventually(workspace.page_is_up)
    replace(workspace.folder / "trading-app/src/trading_app/messages.py", "must be above 0 and", "must be beyond 0 and")
    assert eventually(lambda: len(re.findall(r"ui.*startup complete", stack.output)) == 2)
    desk = page()
    desk.get_by_label("Quantity").fill("0")
    button(desk, "Buy").click()
    expect(desk.get_by_test_id("stToast")).to_contain_text("must be beyond 0 and at most")
