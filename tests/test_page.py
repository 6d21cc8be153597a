"""The page in a real browser, on the real side-car."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect
from stack import Honcho, Prometheus, Workspace, eventually

type Start = Callable[..., Honcho]
type Open = Callable[..., Page]

GREEN, RED = "rgb(115, 191, 105)", "rgb(242, 73, 92)"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A side-car and a page's server that nothing happens to."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    running = Honcho(workspace, "sidecar", "ui")
    assert eventually(workspace.page_is_up)
    assert eventually(workspace.sidecar_is_up)
    yield workspace
    running.end()


@pytest.fixture
def tab(shared: Workspace, browser: Browser) -> Iterator[Open]:
    """Opens tabs of the shared page. What is started in them is stopped."""
    context = browser.new_context()

    def open_tab() -> Page:
        return drawn(context.new_page(), shared)

    yield open_tab
    for page in context.pages:
        if button(page, "Stop").is_visible():
            button(page, "Stop").click()
            expect(button(page, "Start")).to_be_visible()
    context.close()


@pytest.fixture
def desk(tab: Open) -> Page:
    return tab()


def drawn(page: Page, workspace: Workspace) -> Page:
    """The page, once its charts stand, which are drawn last."""
    page.goto(workspace.page)
    page.locator("svg.marks").nth(1).wait_for()
    return page


class Pictures:
    """Takes the README's pictures: SCREENSHOTS=docs/screenshots pytest tests/test_page.py"""

    def __init__(self, folder: Path) -> None:
        shown = os.environ.get("SCREENSHOTS")
        self._folder = Path(shown) if shown else folder
        # A chart that is to be shown should have something to see, and a page the time to settle.
        self.patience, self._settle = (120_000, 1500) if shown else (0, 100)

    def take(self, page: Page, name: str, scheme: Literal["light", "dark"] = "light", width: int = 1280) -> None:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 1000 if width > 500 else 1750})
        page.wait_for_timeout(self._settle)
        page.screenshot(path=self._folder / f"{name}.png")


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path)


@contextmanager
def grafana(port: int) -> Iterator[None]:
    """What the page sees of Grafana, which is in no package index."""

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def metric(page: Page, name: str) -> Locator:
    return page.get_by_test_id("stMetric").filter(has_text=name).get_by_test_id("stMetricValue")


def station(page: Page, name: str) -> Locator:
    """A part of the loop, with its state."""
    return page.locator(".st-key-loop").get_by_text(name, exact=True).locator("xpath=ancestor::p")


def rows(page: Page) -> Locator:
    return page.get_by_role("table").locator("tbody tr")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def background(button: Locator) -> str:
    colour: str = button.evaluate("element => getComputedStyle(element).backgroundColor")
    return colour


def test_buy_is_green_and_sell_is_red(desk: Page) -> None:
    for name, colour in ("Buy", GREEN), ("Sell", RED):
        assert background(button(desk, name)) == colour
        button(desk, name).hover()
        assert background(button(desk, name)) == colour


def test_a_trade_is_logged_at_once_and_turns_to_delivered_without_a_jump_of_the_page(desk: Page) -> None:
    place = button(desk, "Buy").bounding_box()
    trades = int(metric(desk, "Buy trades").inner_text())
    desk.get_by_label("Quantity").fill("3.125")
    button(desk, "Buy").click()
    expect(rows(desk).first).to_contain_text("3.125", timeout=1000)
    expect(rows(desk).first).to_contain_text("delivered in")
    expect(metric(desk, "Buy trades")).to_have_text(str(trades + 1))
    assert button(desk, "Buy").bounding_box() == place


def test_keys_trade_unless_one_is_typing(desk: Page) -> None:
    desk.get_by_label("Quantity").fill("4.25")
    desk.get_by_label("Quantity").press("b")
    desk.get_by_label("Quantity").press("Backspace")
    desk.get_by_role("heading", name="trading-telemetry").click()
    desk.keyboard.press("s")
    expect(rows(desk).first).to_contain_text("4.25")
    expect(rows(desk).first).to_contain_text("sell")


def test_what_makes_no_trade_is_refused_in_words(desk: Page) -> None:
    trades = metric(desk, "Buy trades").inner_text()
    for quantity, reason in ("0", "at most 1e+12, not 0"), ("2,5", "a number such as 2.5, not '2,5'"), ("", "not ''"):
        desk.get_by_label("Quantity").fill(quantity)
        button(desk, "Buy").click()
        expect(desk.get_by_test_id("stToast").filter(has_text=reason)).to_contain_text("Nothing was sent")
    assert metric(desk, "Buy trades").inner_text() == trades


def test_the_numbers_live_and_nothing_is_drawn_anew(desk: Page) -> None:
    button(desk, "Start").click()
    expect(metric(desk, "Trades a second")).not_to_have_text("0")
    desk.evaluate("""() => {
        window.kept = [...document.querySelectorAll('[data-testid=stMetric], [data-testid=stForm], svg.marks')]
        window.seen = []
        const value = () => document.querySelector('[data-testid=stMetricValue]').innerText
        setInterval(() => { if (value() !== window.seen.at(-1)) window.seen.push(value()) }, 20)
    }""")
    desk.wait_for_function("window.seen.length >= 4")
    assert desk.evaluate("window.kept.length") == 12
    assert desk.evaluate("window.kept.every(element => element.isConnected)")


def test_two_tabs_show_the_same_truth(tab: Open) -> None:
    mine, other = tab(), tab()
    mine.get_by_label("Quantity").fill("5.5")
    button(mine, "Buy").click()
    expect(rows(other).first).to_contain_text("5.5")
    button(other, "Start").click()
    expect(button(mine, "Stop")).to_be_visible()
    expect(mine.get_by_role("slider", disabled=True)).to_have_count(2)
    button(mine, "Stop").click()
    expect(button(other, "Start")).to_be_visible()

    def same_numbers() -> bool:
        numbers = [page.get_by_test_id("stMetricValue").all_inner_texts()[:5] for page in (mine, other)]
        return numbers[0] == numbers[1]

    assert eventually(same_numbers)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anyone_can_read_it_in_a_window_of_any_width(desk: Page, scheme: str) -> None:
    desk.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    button(desk, "Sell").click()
    expect(rows(desk).first).to_contain_text("sell")
    for width in 320, 390, 768, 1280, 1920:
        desk.set_viewport_size({"width": width, "height": 900})
        desk.wait_for_function("innerWidth == document.documentElement.scrollWidth")
    red, *_ = desk.evaluate(
        "getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red < 128) == (scheme == "dark")
    found = Axe().run(desk)
    assert found.violations_count == 0, found.generate_report()


def test_each_part_of_the_loop_shows_its_state_and_leads_to_where_it_lives(
    workspace: Workspace, honcho: Start, prometheus: Prometheus, browser: Browser, pictures: Pictures
) -> None:
    honcho("sidecar", "ui")
    assert eventually(workspace.page_is_up)
    desk = drawn(browser.new_page(), workspace)
    for name, port in ("side-car", f"{workspace.sidecar_port}/metrics"), ("Prometheus", workspace.prometheus_port):
        assert desk.get_by_role("link", name=name).get_attribute("href") == f"http://127.0.0.1:{port}"
        expect(station(desk, name)).to_contain_text("up", timeout=15_000)
    expect(station(desk, "Grafana")).to_contain_text("not running")
    with grafana(workspace.grafana_port):
        expect(station(desk, "Grafana")).to_contain_text("up")
        button(desk, "Start").click()
        for name in "Buy", "Sell", "Buy":
            button(desk, name).click()
            expect(rows(desk).first).to_contain_text("delivered in")
        expect(desk.get_by_text("As seen by Prometheus")).to_be_visible(timeout=15_000)
        desk.wait_for_timeout(pictures.patience)
        pictures.take(desk, "page")
        pictures.take(desk, "page-dark", scheme="dark")
        pictures.take(desk, "page-phone", width=390)
    expect(station(desk, "Grafana")).to_contain_text("not running")
    prometheus.end()
    expect(station(desk, "Prometheus")).to_contain_text("not running")
    expect(desk.get_by_text("As seen by this page, as Prometheus is away")).to_be_visible()
    expect(desk.get_by_text("All is well")).to_be_visible()
    desk.close()


def test_what_is_wrong_is_said_while_it_is_wrong(
    workspace: Workspace, honcho: Start, browser: Browser, pictures: Pictures
) -> None:
    sidecar = honcho("sidecar")
    honcho("ui")
    assert eventually(workspace.page_is_up)
    desk = drawn(browser.new_page(), workspace)
    button(desk, "Buy").click()
    expect(metric(desk, "Buy trades")).to_have_text("1")

    sidecar.end()
    expect(desk.get_by_text("The side-car is away")).to_be_visible()
    expect(station(desk, "side-car")).to_contain_text("away")
    expect(metric(desk, "Buy trades")).to_have_text("1")
    for sold in range(1, 4):
        button(desk, "Sell").click()
        expect(rows(desk).filter(has_text="waiting")).to_have_count(sold)
    expect(station(desk, "this page")).to_contain_text("3 trades wait")
    expect(desk.get_by_text("3 trades wait here")).to_be_visible()
    expect(desk.get_by_test_id("stException")).to_have_count(0)
    pictures.take(desk, "page-side-car-away")

    honcho("sidecar")
    expect(desk.get_by_text("The side-car is away")).to_have_count(0, timeout=20_000)
    expect(rows(desk).filter(has_text="delivered in")).to_have_count(4)
    expect(metric(desk, "Sell trades")).to_have_text("3")
    expect(station(desk, "this page")).to_contain_text("nothing waits")
    desk.close()
