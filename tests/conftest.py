from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from harness.browser import chromium, new_context
from harness.databases import Prometheus
from harness.page import open_page
from harness.pictures import Pictures
from harness.sidecar import Sidecar
from harness.workspace import Honcho, Workspace
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
    with Sidecar(tmp_path) as running:
        yield running


@pytest.fixture
def honcho(workspace: Workspace) -> Iterator[Callable[..., Honcho]]:
    """Runs ``honcho start``, for all programs or the named ones. Options are those of `Honcho`."""
    with ExitStack() as started:

        def start(*programs: str, **options: Any) -> Honcho:
            return started.enter_context(Honcho(workspace, *programs, **options))

        yield start


@pytest.fixture
def prometheus(workspace: Workspace, tmp_path: Path) -> Iterator[Prometheus]:
    target = f"127.0.0.1:{workspace.sidecar_port}"
    with Prometheus(tmp_path / "prometheus", target, workspace.prometheus_port) as running:
        yield running


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
    return lambda: open_page(browser_context.new_page(), workspace)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path)
