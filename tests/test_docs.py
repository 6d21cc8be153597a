"""The API's documentation in a browser without access to other machines."""

from collections.abc import Callable

from harness.waiting import eventually
from harness.workspace import Honcho, Workspace
from playwright.sync_api import BrowserContext, Route, expect

type Start = Callable[..., Honcho]


def test_the_api_documentation_needs_no_network(
    workspace: Workspace, honcho: Start, browser_context: BrowserContext
) -> None:
    honcho("sidecar", "api")
    assert eventually(workspace.api_is_up, 90)
    blocked: list[str] = []

    def only_here(route: Route) -> None:
        if route.request.url.startswith(workspace.api):
            route.continue_()
        else:
            blocked.append(route.request.url)
            route.abort()

    browser_context.route("**/*", only_here)
    page = browser_context.new_page()
    page.goto(f"{workspace.api}/docs")
    expect(page.get_by_text("/trade/{side}")).to_be_visible()
    assert blocked == []
