"""A real browser, its console, and axe, which finds barriers in a page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, WebError, sync_playwright

from harness.tools import tool
from harness.waiting import eventually


@contextmanager
def chromium() -> Iterator[Browser]:
    # Chromium's own requests to the internet would only fail in a closed network.
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    # Other websites; all of them are served by this machine.
    sites = "--host-resolver-rules=MAP *.example 127.0.0.1"
    program = tool("chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", sites, *quiet]
        )
        try:
            yield running
        finally:
            running.close()


@contextmanager
def new_context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    try:
        yield context
    finally:
        for page in context.pages:
            close_page(page)
        context.close()


def close_page(page: Page) -> None:
    # Chromium can hang if a page is closed while it loads.
    page.goto("about:blank")
    page.close()


@contextmanager
def silent(context: BrowserContext) -> Iterator[None]:
    """Fail on warnings and errors in the consoles of the pages."""
    logged: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in {"warning", "error"} and "net::ERR_" not in message.text:
            logged.append(message.text)

    def note_error(error: WebError) -> None:
        logged.append(str(error.error))

    context.on("console", note)
    context.on("weberror", note_error)
    try:
        yield
    finally:
        context.remove_listener("console", note)
        context.remove_listener("weberror", note_error)
    assert logged == []


def require_no_violations(page: Page) -> None:
    violations: list[dict[str, Any]] = []

    def has_none() -> bool:
        # A Promise has no time limit of its own in Playwright.
        violations[:] = page.evaluate(
            """() => Promise.race([
                axe.run().then(results => results.violations),
                new Promise((_, reject) => setTimeout(() => reject(new Error('axe takes over 60 s')), 60_000)),
            ])"""
        )
        return not violations

    page.evaluate(f"() => {{ {Axe().axe_script} }}")
    # Colours fade for a moment after a change.
    assert eventually(has_none), violations


def require_no_violations_in_light_and_dark(page: Page) -> None:
    for scheme in "light", "dark":
        page.emulate_media(color_scheme=scheme)
        require_no_violations(page)
