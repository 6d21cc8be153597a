from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from harness.browser import chromium, new_context
from harness.chaos import Sidecar
from harness.stack import Honcho, Prometheus, Workspace, eventually
from playwright.sync_api import Browser, BrowserContext, Page, expect

# The time of one example depends on the machine, not on the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return Workspace(folder)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A running sidecar."""
    running = Sidecar(tmp_path)
    running.start()
    assert eventually(running.is_up)
    yield running
    running.close()


@pytest.fixture
def honcho(workspace: Workspace) -> Iterator[Callable[..., Honcho]]:
    """Runs ``honcho start``, for all programs or the named ones. Options are those of `Honcho`."""
    started: list[Honcho] = []

    def start(*programs: str, **options: Any) -> Honcho:
        started.append(Honcho(workspace, *programs, **options))
        return started[-1]

    yield start
    for running in started:
        running.end()


@pytest.fixture
def prometheus(workspace: Workspace, tmp_path: Path) -> Iterator[Prometheus]:
    target = f"127.0.0.1:{workspace.sidecar_port}"
    server = Prometheus(tmp_path / "prometheus", target, workspace.prometheus_port)
    yield server
    server.end()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # A page is slow on a busy machine. Tests of speed set their own timeout.
    expect.set_options(timeout=20_000)
    with chromium() as running:
        yield running


@pytest.fixture
def browser_context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser context of its own."""
    with new_context(browser) as context:
        yield context


@pytest.fixture
def page(browser_context: BrowserContext, workspace: Workspace) -> Callable[[], Page]:
    """Opens the workspace's page in the browser as soon as it is served."""

    def open_page() -> Page:
        assert eventually(workspace.page_is_up, 90)
        opened = browser_context.new_page()
        opened.goto(workspace.page)
        # The page draws the order flow last. The first page of a server waits for imports.
        opened.get_by_role("button", name="Burst").wait_for(timeout=60_000)
        return opened

    return open_page
