"""A real browser."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from harness.stack import tool


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
        yield running
        running.close()


@contextmanager
def new_context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    # Chromium can hang if a context is closed while its pages load.
    for page in context.pages:
        page.goto("about:blank")
    context.close()
