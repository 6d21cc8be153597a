"""The cost of an idle page: processor time of its server and of the sidecar, by the number of open tabs.

Run it with ``python -m benchmarks.page``. Percentages are of one core.
"""

import sys
import tempfile
import time
from pathlib import Path

from harness.tools import find_tool
from harness.waiting import eventually
from harness.workspace import Honcho, Workspace
from playwright.sync_api import sync_playwright

SETTLE = 8.0
SECONDS = 20.0


def processor_seconds(group: int) -> float:
    """User and system time of all processes of a process group."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def report(tabs: int, ui: Honcho, sidecar: Honcho) -> None:
    time.sleep(SETTLE)
    before = [processor_seconds(program.groups[0]) for program in (ui, sidecar)]
    time.sleep(SECONDS)
    after = [processor_seconds(program.groups[0]) for program in (ui, sidecar)]
    page, behind = (100 * (end - start) / SECONDS for start, end in zip(before, after, strict=True))
    print(f"{tabs} tabs: the page's server {page:.1f} %, the sidecar {behind:.1f} %", flush=True)


def main() -> None:
    chromium = find_tool("chromium")
    if not chromium:
        sys.exit("benchmarks.page: chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        workspace = Workspace(Path(folder))
        with Honcho(workspace, "sidecar") as sidecar, Honcho(workspace, "ui") as ui:
            assert eventually(workspace.page_is_up, 90)
            assert eventually(workspace.sidecar_is_up)
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for tabs in 0, 1, 4:
                while len(browser.contexts) < tabs:
                    browser.new_context().new_page().goto(workspace.page)
                report(tabs, ui, sidecar)
            browser.close()


if __name__ == "__main__":
    main()
