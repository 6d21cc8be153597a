"""The page: its parts, and how to use it."""

import re

from playwright.sync_api import Locator, Page, ViewportSize, expect

from harness.waiting import eventually, get
from harness.workspace import Workspace

DESKTOP, PHONE = ViewportSize(width=1280, height=720), ViewportSize(width=390, height=844)


def open_page(page: Page, workspace: Workspace) -> Page:
    """Open the page as soon as it is served, and wait until it is complete."""
    assert eventually(workspace.page_is_up, 90)
    page.goto(workspace.page)
    # The first page of a server waits for imports.
    button(page, "Burst").wait_for(timeout=60_000)
    page.locator("svg.marks").first.wait_for()
    wait_for_redraw(page)
    return page


def wait_for_redraw(page: Page) -> None:
    """Wait until the server has sent all of a redraw."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def pause(page: Page, milliseconds: int = 200) -> None:
    """Pause after a redraw, as a person does: a click right after it is taken for one that Streamlit repeats."""
    wait_for_redraw(page)
    page.wait_for_timeout(milliseconds)


def metric(page: Page, name: str) -> Locator:
    return page.get_by_test_id("stMetric").filter(has_text=name).get_by_test_id("stMetricValue")


def status(page: Page) -> Locator:
    return page.locator(".st-key-status").get_by_test_id("stAlert")


def unfold(page: Page) -> Locator:
    return page.locator(".st-key-unfold").get_by_role("button")


def symbol(page: Page) -> Locator:
    return page.get_by_label("Symbol", exact=True)


def choose_symbol(page: Page, name: str) -> None:
    if symbol(page).input_value() != name:
        symbol(page).fill(name)
        symbol(page).press("Enter")


def loop(page: Page) -> Locator:
    """The line with the parts of the loop and their states."""
    return page.locator(".st-key-folded-loop, .st-key-unfolded-loop")


def tape(page: Page) -> Locator:
    return page.locator(".st-key-tape").get_by_role("table")


def rows(page: Page) -> Locator:
    return tape(page).locator("tbody tr")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def show(page: Page, trades: str) -> None:
    page.get_by_role("radio", name=trades).click()


def counted(workspace: Workspace) -> int:
    """The number of trades that the sidecar has counted."""
    return sum(
        int(float(value)) for value in re.findall(r"^trades_total{.*} (.*)$", get(workspace.metrics), re.MULTILINE)
    )


def choose(page: Page, label: str, option: str) -> None:
    field = page.get_by_label(label, exact=True)
    # An open list closes when the page scrolls.
    field.scroll_into_view_if_needed()
    field.click()
    page.get_by_role("option", name=option, exact=True).click()
