"""The page in a real browser, on the real sidecar."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
import zmq
from harness.browser import close_page, new_context, require_no_violations, silent
from harness.databases import Prometheus
from harness.page import (
    DESKTOP,
    PHONE,
    button,
    choose,
    choose_symbol,
    counted,
    loop,
    metric,
    open_page,
    pause,
    rows,
    show,
    status,
    symbol,
    tape,
    unfold,
)
from harness.pictures import Pictures
from harness.waiting import eventually
from harness.workspace import Honcho, Workspace
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    expect,
)

GREEN, RED = "rgb(115, 191, 105)", "rgb(242, 73, 92)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Honcho]:
    """A page's server, and a sidecar, that run for all tests of this module."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    with Honcho(workspace, "sidecar"), Honcho(workspace, "ui") as ui:
        assert eventually(workspace.sidecar_is_up)
        yield ui


@pytest.fixture(scope="module")
def shared(server: Honcho) -> Workspace:
    """The workspace of the shared programs."""
    return server.workspace


@pytest.fixture(scope="module")
def tabs(browser: Browser) -> Iterator[BrowserContext]:
    """The browser context of the shared page. To open the page again in it takes a quarter of the time."""
    with new_context(browser) as context:
        context.new_page()
        yield context


@pytest.fixture
def desk(shared: Workspace, tabs: BrowserContext) -> Iterator[Page]:
    """The shared page, just opened, with BTC-USD chosen. Afterwards a running flow is stopped, and other tabs close."""
    with silent(tabs):
        page, *_ = tabs.pages
        page.set_viewport_size(DESKTOP)
        page.emulate_media(color_scheme="light")
        open_page(page, shared)
        choose_symbol(page, "BTC-USD")
        yield page
        for other in tabs.pages[1:]:
            close_page(other)
        if button(page, "Stop").is_visible():
            button(page, "Stop").click()
            expect(button(page, "Start")).to_be_visible()


def second_tab(desk: Page, workspace: Workspace) -> Page:
    return open_page(desk.context.new_page(), workspace)


@pytest.fixture
def prometheus(shared: Workspace, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the shared sidecar."""
    target = f"127.0.0.1:{shared.sidecar_port}"
    with Prometheus(tmp_path / "prometheus", target, shared.prometheus_port) as running:
        yield running


@contextmanager
def grafana(port: int) -> Iterator[None]:
    """A stand-in for Grafana's health check: Grafana is in no package index."""

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def background(button: Locator) -> str:
    colour: str = button.evaluate("element => getComputedStyle(element).backgroundColor")
    return colour


# The ticket


def test_buy_is_green_and_sell_is_red(desk: Page) -> None:
    for name, colour in ("Buy", GREEN), ("Sell", RED):
        assert background(button(desk, name)) == colour
        button(desk, name).hover()
        assert background(button(desk, name)) == colour


def test_on_a_phone_the_ticket_is_visible_at_any_scroll_position(desk: Page) -> None:
    desk.set_viewport_size(PHONE)
    ticket = (symbol(desk), desk.get_by_label("Quantity"), button(desk, "Buy"), button(desk, "Sell"))
    for part in ticket:
        expect(part).to_be_in_viewport(ratio=1)
    left, right = (part.bounding_box() for part in ticket[:2])
    assert left
    assert right
    assert abs(left["y"] - right["y"]) < 20, "side by side"
    button(desk, "Burst").scroll_into_view_if_needed()
    for part in ticket:
        expect(part).to_be_in_viewport(ratio=1)


def test_status_ticket_and_tape_are_visible_without_scrolling(desk: Page) -> None:
    for number in range(12):
        button(desk, "Sell" if number % 2 else "Buy").click()
    expect(rows(desk).nth(11)).to_be_visible()
    for width, height in (1280, 900), (1440, 900), (1920, 1080):
        desk.set_viewport_size({"width": width, "height": height})
        for part in (status(desk), symbol(desk), button(desk, "Buy"), button(desk, "Sell"), rows(desk).nth(11)):
            expect(part, str(width)).to_be_in_viewport(ratio=1)
        expect(desk.get_by_test_id("stDataFrame"), str(width)).to_be_in_viewport()


def test_the_ticket_stays_visible_while_scrolling(desk: Page) -> None:
    desk.set_viewport_size(DESKTOP)
    button(desk, "Burst").scroll_into_view_if_needed()
    expect(desk.get_by_role("heading", name="trading-telemetry")).not_to_be_in_viewport()
    for part in (symbol(desk), button(desk, "Buy"), button(desk, "Sell")):
        expect(part).to_be_in_viewport(ratio=1)


def test_on_a_phone_the_loop_is_one_line_that_unfolds(desk: Page) -> None:
    desk.set_viewport_size(PHONE)
    expect(loop(desk)).to_be_hidden()
    line = desk.locator(".st-key-status").bounding_box()
    assert line
    assert line["height"] < 50
    unfold(desk).click()
    expect(loop(desk)).to_contain_text("Sidecar up")
    pause(desk)
    unfold(desk).click()
    expect(loop(desk)).to_be_hidden()


def test_an_invalid_quantity_has_a_hint_on_blur_and_is_rejected_on_click(shared: Workspace, desk: Page) -> None:
    before = counted(shared)
    place = button(desk, "Buy").bounding_box()
    reasons = {
        "0": "above 0 and at most 1e+12, not 0",
        "2,5": "a number such as 2.5, not '2,5'",
        "": "a number such as 2.5, not ''",
    }
    for quantity, reason in reasons.items():
        desk.get_by_label("Quantity").fill(quantity)
        desk.get_by_label("Quantity").blur()
        expect(desk.locator(".st-key-ticket").get_by_role("alert")).to_contain_text(reason.partition(", not")[0])
        assert button(desk, "Buy").bounding_box() == place
        button(desk, "Buy").click()
        expect(desk.get_by_test_id("stToast").filter(has_text=reason)).to_contain_text("Nothing was sent")
        assert counted(shared) == before
        desk.get_by_label("Quantity").fill("1")
        desk.get_by_label("Quantity").blur()
        expect(desk.locator(".st-key-ticket").get_by_role("alert")).to_have_count(0)


def test_a_typed_symbol_is_accepted_and_new_pages_start_with_it(shared: Workspace, desk: Page) -> None:
    for _ in range(2):  # Typing the chosen symbol again keeps it.
        symbol(desk).click()
        symbol(desk).press_sequentially("SHIB-USD")
        symbol(desk).press("Enter")
        # Until the server has answered.
        desk.wait_for_timeout(1000)
        expect(symbol(desk)).to_have_value("SHIB-USD")
    symbol(desk).fill(" DOGE-USD ")
    symbol(desk).press("Enter")
    desk.get_by_label("Price", exact=True).fill("0.125")
    button(desk, "Buy").click()
    expect(rows(desk).filter(has_text="DOGE-USD").first).to_contain_text("0.125")
    expect(desk.get_by_text("Position DOGE-USD", exact=True)).to_be_visible()
    expect(symbol(second_tab(desk, shared))).to_have_value("DOGE-USD")


def test_after_choosing_a_symbol_the_keys_work(desk: Page) -> None:
    symbol(desk).click()
    desk.get_by_role("option", name="ETH-USD").click()
    expect(symbol(desk)).to_have_value("ETH-USD")
    expect(symbol(desk)).not_to_be_focused()
    desk.keyboard.press("b")
    expect(rows(desk).first).to_contain_text("ETH-USD")


@pytest.mark.long
def test_each_press_is_one_trade_at_any_speed(shared: Workspace, desk: Page) -> None:
    before = counted(shared)
    for number in range(60):
        button(desk, "Buy" if number % 2 else "Sell").click()
        desk.wait_for_timeout(number % 7 * 15)
    assert eventually(lambda: counted(shared) >= before + 60)
    desk.wait_for_timeout(1000)
    assert counted(shared) == before + 60


def test_many_presses_at_once_are_one_trade_each(shared: Workspace, desk: Page) -> None:
    before = counted(shared)
    desk.evaluate("""() => {
        for (let press = 0; press < 60; press++) document.dispatchEvent(new KeyboardEvent('keydown', { key: 'b' }))
    }""")
    assert eventually(lambda: counted(shared) >= before + 60)
    # Longer than a press is sent again.
    desk.wait_for_timeout(3000)
    assert counted(shared) == before + 60
    expect(desk.get_by_text("No answer to")).to_have_count(0)


PRESS_WHEN_VISIBLE = """
const find = node => [node, ...node.querySelectorAll('*')].map(
  each => (each.shadowRoot ?? each).querySelector('button[value=buy]')).find(button => button)
const press = () => {
  const button = find(document.documentElement)
  if (button?.checkVisibility({ visibilityProperty: true })) button.click()
  else requestAnimationFrame(press)
}
document.addEventListener('DOMContentLoaded', press)
"""


def test_a_press_counts_as_soon_as_the_buttons_are_visible(shared: Workspace, desk: Page) -> None:
    before = counted(shared)
    eager = desk.context.new_page()
    eager.add_init_script(PRESS_WHEN_VISIBLE)
    open_page(eager, shared)
    assert eventually(lambda: counted(shared) == before + 1)


def test_keys_trade_wherever_the_focus_is_except_in_a_text_field(shared: Workspace, desk: Page) -> None:
    show(desk, "My trades")
    places: dict[str, Callable[[], None]] = {
        "the page": lambda: desk.get_by_role("heading", name="trading-telemetry").click(),
        "a button": lambda: button(desk, "Sell").focus(),
        "a choice": lambda: desk.get_by_role("radio", name="My trades").focus(),
        "the positions": lambda: desk.get_by_test_id("stDataFrame").click(position={"x": 50, "y": 50}),
        "a folded part": lambda: desk.locator("summary").focus(),
    }
    before = counted(shared)
    button(desk, "Buy").click()
    assert eventually(lambda: counted(shared) == before + 1)
    expect(desk.get_by_test_id("stDataFrame")).to_be_visible()
    for number, (place, focus) in enumerate(places.items(), 1):
        before = counted(shared)
        desk.get_by_label("Quantity").fill(f"{number}.25")
        desk.get_by_label("Quantity").blur()
        focus()
        desk.keyboard.press("s")
        expect(rows(desk).first, place).to_contain_text(f"{number}.25")
        expect(rows(desk).first, place).to_contain_text("sell")
        assert eventually(lambda: counted(shared) == before + 1), place  # noqa: B023
    before = counted(shared)
    for label in "Quantity", "Price", "Symbol":
        desk.get_by_label(label, exact=True).press("b")
    symbol(desk).press("Escape")
    desk.wait_for_timeout(1000)
    assert counted(shared) == before


def test_a_press_without_an_answer_is_reported_until_the_server_answers(
    shared: Workspace, server: Honcho, desk: Page
) -> None:
    before = counted(shared)
    desk.get_by_label("Quantity").fill("8.875")
    desk.get_by_label("Quantity").blur()
    place = button(desk, "Buy").bounding_box()
    alert = desk.locator(".st-key-buttons").get_by_role("alert")
    os.killpg(server.groups[0], signal.SIGSTOP)
    try:
        desk.keyboard.press("b")
        expect(alert).to_have_text("No answer to Buy. Check My trades before you press again.")
        assert button(desk, "Buy").bounding_box() == place, "nothing moves"
    finally:
        os.killpg(server.groups[0], signal.SIGCONT)
    expect(rows(desk).filter(has_text="8.875").filter(has_text="counted")).to_have_count(1)
    expect(alert).to_be_hidden()
    assert counted(shared) == before + 1


# The tape


def test_a_trade_appears_at_once_and_becomes_counted_without_moving_the_page(desk: Page) -> None:
    button(desk, "Buy").click()
    expect(rows(desk).first).to_contain_text("counted")
    expect(desk.locator(".st-key-position-chart svg.marks")).to_be_visible()
    desk.wait_for_timeout(1500)
    places = [part.bounding_box() for part in (button(desk, "Buy"), desk.locator(".st-key-market"), tape(desk))]
    desk.get_by_label("Quantity").fill("3.125")
    button(desk, "Buy").click()
    expect(rows(desk).first).to_contain_text("3.125", timeout=1000)
    expect(rows(desk).first).to_contain_text("counted")
    expect(metric(desk, "Buy trades")).to_have_text(re.compile(r"[\d,]+"))
    now = [part.bounding_box() for part in (button(desk, "Buy"), desk.locator(".st-key-market"), tape(desk))]
    assert [box and (box["x"], box["y"]) for box in now] == [box and (box["x"], box["y"]) for box in places]


def test_the_tape_shows_trades_of_all_publishers(shared: Workspace, desk: Page) -> None:
    message = {"type": "trade", "side": "sell", "qty": 7.75, "ts": time.time(), "symbol": "XAU/USD", "price": 2400.5}
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://127.0.0.1:{shared.zmq_port}")
        push.send(json.dumps(message).encode())
    row = rows(desk).filter(has_text="XAU/USD").first
    for text in "sell", "7.75", "2,400.5":
        expect(row).to_contain_text(text)
    expect(row).to_have_text(re.compile(r"\d [µm]s"))
    show(desk, "My trades")
    expect(rows(desk).filter(has_text="XAU/USD")).to_have_count(0)


# Positions and charts


def test_positions_can_be_sorted(desk: Page) -> None:
    def buy(name: str) -> None:
        choose_symbol(desk, name)
        button(desk, "Buy").click()
        expect(rows(desk).filter(has_text=name).first).to_be_visible()

    for name in "AAA", "ZZZ":
        buy(name)
    grid = desk.get_by_test_id("stDataFrame")
    header, cells = grid.locator("thead th").first, grid.locator("tbody tr td:first-of-type")

    def order() -> list[str]:
        return [name for name in cells.all_text_contents() if name in {"AAA", "ZZZ"}]

    for arrow, expected in ("\N{UPWARDS ARROW}", ["AAA", "ZZZ"]), ("\N{DOWNWARDS ARROW}", ["ZZZ", "AAA"]):
        grid.click(position={"x": 25, "y": 17})
        expect(header).to_have_text(f"{arrow} Symbol")
        assert eventually(lambda: order() == expected)  # noqa: B023
    last = grid.locator("tbody tr").filter(has_text="AAA").locator("td").nth(2)
    bought = float(last.text_content() or "")
    buy("AAA")
    expect(last, "updated").to_have_text(f"{bought + 1:g}")
    assert order() == ["ZZZ", "AAA"], "still sorted"


def test_charts_show_values_on_hover_and_clean_axis_labels(desk: Page) -> None:
    button(desk, "Start").click()
    expect(metric(desk, "Rate")).not_to_have_text("\N{EN DASH}")
    chart = desk.locator(".st-key-rates-chart svg.marks")
    chart.wait_for()
    tooltip = desk.locator("#vg-tooltip-element")

    def pointed_at() -> str:
        chart.hover(position={"x": 200, "y": 40})
        chart.hover(position={"x": 210, "y": 40})
        return (tooltip.text_content() or "") if tooltip.count() else ""

    for side in "Buys", "Sells":
        assert eventually(lambda: f"{side} per second" in pointed_at())  # noqa: B023
    texts = desk.locator("svg.marks text").all_text_contents()
    assert texts
    assert not [text for text in texts if "0.0000" in text]
    expect(desk.get_by_text("Source: the sidecar, as seen by this page.")).to_be_visible()


def test_figures_update_in_place(desk: Page) -> None:
    button(desk, "Start").click()
    expect(button(desk, "Stop")).to_be_visible()
    expect(metric(desk, "Calls of publish()")).not_to_have_text("\N{EN DASH}")
    desk.wait_for_timeout(1500)
    desk.evaluate("""() => {
        const parts = '[data-testid=stMetric], .st-key-buttons, svg.marks, canvas, table'
        window.kept = [...document.querySelectorAll(parts)]
        window.seen = []
        const value = () => document.querySelector('.st-key-market [data-testid=stMetricValue]').innerText
        setInterval(() => { if (value() !== window.seen.at(-1)) window.seen.push(value()) }, 20)
    }""")
    desk.wait_for_function("window.seen.length >= 4")
    assert desk.evaluate("window.kept.length") > 10
    assert desk.evaluate("window.kept.every(element => element.isConnected)")


# Several tabs, and the order flow


def test_tabs_show_the_same_figures_trades_and_flow(shared: Workspace, desk: Page) -> None:
    mine, other = desk, second_tab(desk, shared)
    mine.get_by_label("Quantity").fill("5.5")
    button(mine, "Buy").click()
    expect(rows(other).first).to_contain_text("5.5")
    button(other, "Start").click()
    expect(button(mine, "Stop")).to_be_visible()
    expect(mine.locator(".st-key-rate input")).to_be_disabled()
    button(mine, "Stop").click()
    expect(button(other, "Start")).to_be_visible()

    def same_numbers() -> bool:
        numbers = [
            page.locator(".st-key-market").get_by_test_id("stMetricValue").all_inner_texts() for page in (mine, other)
        ]
        return numbers[0][:2] == numbers[1][:2]

    assert eventually(same_numbers)


@pytest.mark.long
def test_no_click_on_the_flow_is_lost_whatever_else_happens(desk: Page) -> None:
    """A click right after a press, which redraws the page, at moments spread over a second."""
    for number in range(12):
        label, other = ("Stop", "Start") if number % 2 else ("Start", "Stop")
        button(desk, "Buy").click()
        button(desk, label).click()
        expect(button(desk, other), f"click {number}").to_be_visible()
        pause(desk, 200 + number * 170 % 1000)


def test_starting_and_stopping_a_flow_replaces_no_button_or_field(desk: Page) -> None:
    # Start or Stop, Burst, and four fields.
    expect(desk.locator(".st-key-simulator :is(button[kind=secondary], input)")).to_have_count(6)
    desk.evaluate("""() => {
        const parts = () => document.querySelectorAll('.st-key-simulator :is(button[kind=secondary], input)').length
        window.counts = new Set([parts()])
        const options = { childList: true, subtree: true }
        new MutationObserver(() => window.counts.add(parts())).observe(document.body, options)
    }""")
    for label, other in [("Start", "Stop"), ("Stop", "Start")] * 3:
        button(desk, label).click()
        expect(button(desk, other)).to_be_visible()
        pause(desk)
    assert desk.evaluate("[...window.counts]") == [6]


def test_typing_into_a_choice_of_the_flow_chooses_nothing(desk: Page) -> None:
    field = desk.get_by_label("Per second", exact=True)
    before = field.input_value()
    field.scroll_into_view_if_needed()
    field.click()
    desk.keyboard.type("1000", delay=60)
    desk.keyboard.press("Enter")
    expect(field).to_have_value(before)
    choose(desk, "Per second", "1,000")
    expect(field).to_have_value("1,000")


@pytest.mark.long
def test_a_fast_flow_shows_its_load_on_the_publisher(desk: Page) -> None:
    choose(desk, "Per second", "100,000")
    button(desk, "Start").click()
    expect(desk.locator("summary")).to_contain_text("100,000/s")
    expect(metric(desk, "Time per call")).to_have_text(re.compile(r"[\d.]+ µs"))

    def calls() -> float:
        return float(metric(desk, "Calls of publish()").inner_text().removesuffix("/s").replace(",", ""))

    assert eventually(lambda: calls() > 10_000)
    button(desk, "Stop").click()
    expect(button(desk, "Start")).to_be_visible()


# Accessibility


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_at_any_width(desk: Page, scheme: Literal["light", "dark"]) -> None:
    desk.emulate_media(color_scheme=scheme)
    button(desk, "Sell").click()
    expect(rows(desk).first).to_contain_text("sell")
    red, *_ = desk.evaluate(
        "getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red < 128) == (scheme == "dark")
    for width in 320, 390, 768, 1280, 1920:
        desk.set_viewport_size({"width": width, "height": 900})
        desk.wait_for_function("innerWidth == document.documentElement.scrollWidth")
        if width in {390, 1280, 1920}:
            require_no_violations(desk)
    desk.set_viewport_size(PHONE)
    unfold(desk).click()
    expect(loop(desk)).to_be_visible()
    desk.get_by_label("Quantity").fill("much")
    desk.get_by_label("Quantity").blur()
    expect(desk.locator(".st-key-ticket").get_by_role("alert")).to_be_visible()
    require_no_violations(desk)
    desk.get_by_label("Quantity").fill("1")
    desk.get_by_label("Quantity").blur()
    expect(desk.locator(".st-key-ticket").get_by_role("alert")).to_have_count(0)
    desk.set_viewport_size({"width": 1280, "height": 900})
    show(desk, "My trades")
    button(desk, "Start").click()
    expect(metric(desk, "Time per call")).not_to_have_text("\N{EN DASH}")
    require_no_violations(desk)


def test_the_page_can_be_used_with_the_keyboard_alone(desk: Page) -> None:
    desk.get_by_label("Quantity").focus()
    desk.keyboard.press("ControlOrMeta+a")
    desk.keyboard.type("6.5")
    for _ in range(2):  # past the price
        desk.keyboard.press("Tab")
    expect(button(desk, "Buy")).to_be_focused()
    desk.keyboard.press("Enter")
    expect(rows(desk).first).to_contain_text("6.5")
    desk.keyboard.press("Tab")
    expect(button(desk, "Sell")).to_be_focused()


# The loop, and its pictures


def test_each_part_of_the_loop_shows_its_state_and_links_to_it(
    shared: Workspace, desk: Page, prometheus: Prometheus, pictures: Pictures
) -> None:
    for name, port in ("Sidecar", f"{shared.sidecar_port}/metrics"), ("Prometheus", shared.prometheus_port):
        assert desk.get_by_role("link", name=name).get_attribute("href") == f"http://127.0.0.1:{port}"
        expect(loop(desk)).to_contain_text(f"{name} up")
    expect(loop(desk)).to_contain_text("Grafana not running")
    expect(desk.get_by_role("link", name="Grafana")).to_have_count(0)
    with grafana(shared.grafana_port):
        expect(loop(desk)).to_contain_text("Grafana up")
        expect(desk.get_by_role("link", name="Grafana")).to_have_count(1)
        button(desk, "Start").click()
        desk.get_by_label("Price", exact=True).fill("100")
        for name in "Buy", "Sell", "Buy":
            button(desk, name).click()
        expect(desk.get_by_text("Source: Prometheus")).to_be_visible()
        desk.wait_for_timeout(pictures.patience)
        button(desk, "Burst").click()
        desk.wait_for_timeout(pictures.patience / 2)
        for scheme in "light", "dark":
            pictures.take(desk, f"page-{scheme}", scheme)
            pictures.take(desk, f"page-wide-{scheme}", scheme, (1920, 1080))
            pictures.take(desk, f"page-phone-{scheme}", scheme, (PHONE["width"], PHONE["height"]))
    desk.set_viewport_size({"width": 1280, "height": 1000})
    expect(loop(desk)).to_contain_text("Grafana not running")
    prometheus.end()
    expect(loop(desk)).to_contain_text("Prometheus not running")
    expect(desk.get_by_text("Prometheus is not running")).to_be_visible()
    expect(status(desk)).to_have_text("Live")
