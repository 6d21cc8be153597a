"""Other websites can do nothing through a visitor's browser."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest
from harness.browser import close_page, new_context
from harness.waiting import eventually, get
from harness.workspace import Honcho, Workspace
from playwright.sync_api import Browser, BrowserContext, Page, expect

type Visit = Callable[[str], Page]

# The API is at 127.0.0.1: another port there is another origin on the same site; the other names are other sites.
SITES = ["127.0.0.1", "localhost", "elsewhere.example"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    with Honcho(workspace) as running:
        assert eventually(workspace.sidecar_is_up), running.output
        assert eventually(workspace.page_is_up), running.output
        assert eventually(workspace.api_is_up), running.output
        yield workspace


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """The port of a web server with an empty page."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """The browser context of all tests. To open a page again in it takes half the time."""
    with new_context(browser) as context:
        yield context


@pytest.fixture
def visit(visitor: BrowserContext) -> Iterator[Visit]:
    """Opens an address in a tab, which is closed after the test."""

    def open_page(url: str) -> Page:
        page = visitor.new_page()
        page.goto(url)
        return page

    yield open_page
    for page in visitor.pages:
        close_page(page)


def submit(page: Page, url: str, enctype: str = "application/x-www-form-urlencoded", qty: str = "5") -> int:
    """Submit a form from the page and return the status."""
    with page.expect_response(url) as answer:
        page.evaluate(
            """([url, enctype, qty]) => {
                const form = document.body.appendChild(document.createElement("form"))
                Object.assign(form, {method: "post", action: url, enctype})
                Object.assign(form.appendChild(document.createElement("input")), {name: "qty", value: qty})
                form.submit()
            }""",
            [url, enctype, qty],
        )
    return answer.value.status


def fetch(page: Page, url: str, **options: object) -> None:
    """Send a request that a script may send to another origin without being allowed to read the response."""
    page.evaluate(
        """([url, options]) =>
            fetch(url, {signal: AbortSignal.timeout(20_000), ...options}).then(() => null, () => null)""",
        [url, {"mode": "no-cors", **options}],
    )


def trades(workspace: Workspace) -> float:
    return sum(map(float, re.findall(r"^trades_total\{.*\} (\S+)$", get(workspace.metrics), re.MULTILINE)))


def trade(workspace: Workspace) -> None:
    """Trade once as a program does, and wait until the trade is counted."""
    before = trades(workspace)
    urlopen(Request(f"{workspace.api}/trade/buy", method="POST"), timeout=10).close()
    assert eventually(lambda: trades(workspace) > before)


@pytest.mark.parametrize("site", SITES)
def test_another_site_cannot_trade(stack: Workspace, other_port: int, visit: Visit, site: str) -> None:
    before = trades(stack)
    elsewhere, url = f"http://{site}:{other_port}/", f"{stack.api}/trade/buy"
    for enctype in "application/x-www-form-urlencoded", "multipart/form-data", "text/plain":
        assert submit(visit(elsewhere), url, enctype) == 403
    page = visit(elsewhere)
    fetch(page, url, method="POST")
    fetch(page, url, method="POST", body='{"qty": 5}', headers={"Content-Type": "text/plain"})
    fetch(page, url, method="POST", body="qty=5", headers={"Content-Type": "application/x-www-form-urlencoded"})
    fetch(page, url, method="POST", body='{"qty": 5}', mode="cors", headers={"Content-Type": "application/json"})
    # Every request above would have been counted before this trade.
    trade(stack)
    assert trades(stack) == before + 1


@pytest.mark.parametrize("site", SITES)
def test_another_site_cannot_use_the_pages_websocket(
    stack: Workspace, other_port: int, visit: Visit, site: str
) -> None:
    happened = visit(f"http://{site}:{other_port}/").evaluate(
        """url => new Promise(resolve => {
            const socket = new WebSocket(url, ["streamlit"])
            socket.onopen = () => resolve("open")
            socket.onerror = () => resolve("refused")
            setTimeout(() => resolve("no answer"), 20_000)
        })""",
        f"ws://127.0.0.1:{stack.ui_port}/_stcore/stream",
    )
    assert happened == "refused"


@pytest.mark.parametrize("site", SITES)
def test_another_site_cannot_frame_the_page(stack: Workspace, other_port: int, visit: Visit, site: str) -> None:
    page = visit(f"http://{site}:{other_port}/")
    page.evaluate("url => { document.body.appendChild(document.createElement('iframe')).src = url }", stack.page)

    def is_refused() -> bool:
        page.wait_for_timeout(50)
        return any(frame.url.startswith("chrome-error://") for frame in page.frames)

    assert eventually(is_refused)


def test_page_and_api_forbid_all_framing(stack: Workspace) -> None:
    for url in stack.page, f"{stack.api}/docs":
        with urlopen(url, timeout=10) as response:
            assert response.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
            assert response.headers["X-Frame-Options"] == "DENY"


def test_a_link_on_another_site_opens_the_page(stack: Workspace, other_port: int, visit: Visit) -> None:
    page = visit(f"http://elsewhere.example:{other_port}/")
    page.evaluate("url => { location.href = url }", stack.page)
    expect(page.get_by_role("button", name="Buy")).to_be_visible()


def test_a_form_on_the_page_trades_and_returns_to_the_page(stack: Workspace, visit: Visit) -> None:
    before = trades(stack)
    page = visit(stack.page)
    with page.expect_navigation(url=f"{stack.page}/"):
        assert submit(page, f"{stack.api}/trade/sell", qty="2.5") == 303
    # Chromium may never close a page that is still loading.
    expect(page.get_by_role("button", name="Buy")).to_be_visible()
    assert eventually(lambda: trades(stack) == before + 1)


def test_a_foreign_host_name_that_resolves_to_this_machine_is_refused(stack: Workspace, visit: Visit) -> None:
    """The browser treats a page under such a name as one of that site's own (DNS rebinding)."""
    before = trades(stack)
    for port, path in (stack.ui_port, "/"), (stack.api_port, "/docs"), (stack.sidecar_port, "/metrics"):
        page = visit("about:blank")
        answer = page.goto(f"http://rebound.example:{port}{path}")
        assert answer
        assert answer.status == 421
        expect(page.get_by_text(f"unknown host rebound.example:{port}")).to_be_visible()
    page = visit(f"http://rebound.example:{stack.api_port}/docs")
    status = page.evaluate("fetch('/trade/buy', {method: 'POST'}).then(response => response.status)")
    assert status == 421
    trade(stack)
    assert trades(stack) == before + 1


@pytest.mark.parametrize(
    "host, origin, status",
    [
        ("rebound.example:PORT", "http://rebound.example:PORT", 421),
        ("127.0.0.1:PORT", "http://rebound.example:PORT", 403),
        ("127.0.0.1:PORT", "null", 403),
        ("127.0.0.1:PORT", "http://127.0.0.1:PORT", 101),
        ("desk:PORT", "http://desk:PORT", 101),
    ],
)
def test_the_pages_websocket_checks_host_and_origin(stack: Workspace, host: str, origin: str, status: int) -> None:
    request = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).replace("PORT", str(stack.ui_port))
    with socket.create_connection(("127.0.0.1", stack.ui_port), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(12) == f"HTTP/1.1 {status}".encode()
