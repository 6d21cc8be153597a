"""The page while the programs behind it start, stop, fail and reload."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
import zmq
from harness.browser import require_no_violations_in_light_and_dark, silent
from harness.page import PHONE, button, choose, counted, loop, metric, open_page, rows, show, status
from harness.pictures import Pictures
from harness.ports import free_port
from harness.tools import replace
from harness.waiting import eventually
from harness.workspace import Honcho, Workspace
from playwright.sync_api import BrowserContext, expect

type Start = Callable[..., Honcho]


@pytest.fixture
def context(browser_context: BrowserContext) -> Iterator[BrowserContext]:
    """A browser context of its own, whose consoles must stay silent."""
    with silent(browser_context):
        yield browser_context


def test_while_the_sidecar_is_away_trades_wait(
    workspace: Workspace, honcho: Start, context: BrowserContext, pictures: Pictures
) -> None:
    sidecar, ui = honcho("sidecar"), honcho("ui")
    desk = open_page(context.new_page(), workspace)
    pictures.take(desk, "page-first")
    expect(desk.locator(".st-key-symbols")).to_have_text(re.compile("BTC-USD.*ETH-USD.*SOL-USD"))
    button(desk, "Buy").click()
    expect(metric(desk, "Buy trades")).to_have_text("1")
    place = button(desk, "Buy").bounding_box()

    sidecar.end()
    expect(status(desk)).to_have_text("Sidecar away")
    expect(loop(desk)).to_contain_text("Sidecar away")
    expect(metric(desk, "Buy trades")).to_have_text("1")
    for sold in range(1, 4):
        button(desk, "Sell").click()
        expect(rows(desk).filter(has_text="waiting")).to_have_count(sold)
    expect(rows(desk).first).to_contain_text("waiting")
    expect(loop(desk)).to_contain_text("This page 3 waiting")
    expect(desk.get_by_text("3 trades wait here until it is back")).to_be_visible()
    expect(desk.get_by_test_id("stException")).to_have_count(0)
    assert button(desk, "Buy").bounding_box() == place, "nothing moves"
    assert eventually(lambda: "WARNING:  no trade was committed" in ui.output), ui.output
    for scheme in "light", "dark":
        pictures.take(desk, f"page-sidecar-away-{scheme}", scheme)
        pictures.take(desk, f"page-sidecar-away-phone-{scheme}", scheme, (PHONE["width"], PHONE["height"]))
    desk.set_viewport_size({"width": 1280, "height": 1000})

    honcho("sidecar")
    assert eventually(workspace.sidecar_is_up, 90)
    expect(status(desk)).to_have_text("Live")
    show(desk, "My trades")
    expect(rows(desk).filter(has_text="counted")).to_have_count(4)
    expect(metric(desk, "Sell trades")).to_have_text("3")
    expect(loop(desk)).to_contain_text("This page idle")


@pytest.mark.long
def test_each_problem_is_named_and_accessible(
    workspace: Workspace, honcho: Start, context: BrowserContext, pictures: Pictures
) -> None:
    """The sidecar starts after the page, whose trades go to a port where nobody listens."""
    settings = (workspace.folder / ".env").read_text()
    zmq_addr, in_memory = f"WEBAPP_ZMQ_ADDR=tcp://127.0.0.1:{free_port()}", "WEBAPP_OUTBOX="
    settings = re.sub(r"^WEBAPP_ZMQ_ADDR=.*$", zmq_addr, settings, flags=re.MULTILINE)
    settings = re.sub(r"^#? ?WEBAPP_OUTBOX=.*$", in_memory, settings, flags=re.MULTILINE)
    (workspace.folder / ".env").write_text(settings)
    honcho("ui")
    desk = open_page(context.new_page(), workspace)

    def check(title: str, text: str) -> None:
        expect(status(desk)).to_have_text(title, timeout=60_000)
        expect(desk.get_by_text(text)).to_be_visible()
        require_no_violations_in_light_and_dark(desk)
        pictures.take(desk, f"page-{title.lower().replace(' ', '-')}")

    check("Sidecar away", "New trades wait here until it is back")
    honcho("sidecar")
    expect(status(desk)).to_have_text("Live")
    with zmq.Context() as sockets, sockets.socket(zmq.PUSH) as push:
        push.connect(f"tcp://127.0.0.1:{workspace.zmq_port}")
        push.send(json.dumps({"type": "gap_fill", "session": "x-0123456789abcdef", "new_seq": 8}).encode())
        check("Trades lost", "7 trades in the last 5 minutes")
    choose(desk, "Burst of", "10,000")
    button(desk, "Burst").click()
    check("Sidecar behind", "10,000 trades wait here")
    choose(desk, "Burst of", "100,000")

    def loses_trades() -> bool:
        button(desk, "Burst").click()
        desk.wait_for_timeout(500)
        return status(desk).inner_text() == "Losing trades"

    assert eventually(loses_trades, 90)
    check("Losing trades", "new trades drop the oldest")


@pytest.mark.long
def test_after_a_hot_reload_the_tape_is_complete_and_the_flow_continues(
    workspace: Workspace, honcho: Start, browser_context: BrowserContext
) -> None:
    stack = honcho("sidecar", "ui")
    desk = open_page(browser_context.new_page(), workspace)
    for quantity in "1.5", "2.5", "3.5":
        desk.get_by_label("Quantity").fill(quantity)
        button(desk, "Buy").click()
        expect(rows(desk).first).to_contain_text(quantity)
    show(desk, "My trades")
    expect(rows(desk).filter(has_text="counted")).to_have_count(3)
    button(desk, "Start").click()
    expect(button(desk, "Stop")).to_be_visible()
    source = workspace.folder / "trading-app/src/trading_app/ui/tape.py"
    replace(source, "last} made on this page.", "last} made right here.")
    show(desk, "My trades")
    expect(desk.get_by_text("made right here")).to_be_visible(timeout=60_000)
    expect(rows(desk).filter(has_text="counted")).to_have_count(3)
    expect(rows(desk)).to_contain_text(["3.5", "2.5", "1.5"])
    expect(button(desk, "Stop")).to_be_visible()
    before = counted(workspace)
    assert eventually(lambda: counted(workspace) > before + 10), stack.output


@pytest.mark.long
def test_a_flow_does_not_continue_after_a_restart(
    workspace: Workspace, honcho: Start, browser_context: BrowserContext
) -> None:
    stack = honcho("sidecar", "ui")
    desk = open_page(browser_context.new_page(), workspace)
    button(desk, "Start").click()
    expect(button(desk, "Stop")).to_be_visible()
    stack.ctrl_c()
    honcho("sidecar", "ui")
    assert eventually(workspace.page_is_up, 90)
    expect(button(desk, "Start")).to_be_visible(timeout=30_000)


@pytest.mark.long
def test_from_a_click_to_the_counter_in_an_animation(
    workspace: Workspace, honcho: Start, context: BrowserContext, pictures: Pictures
) -> None:
    honcho("sidecar", "ui")
    desk = open_page(context.new_page(), workspace)
    desk.get_by_label("Price", exact=True).fill("64250.5")
    for name in "Sell", "Buy":
        button(desk, name).click()
        expect(rows(desk).filter(has_text="counted").first).to_be_visible()
    expect(metric(desk, "Sell trades")).to_have_text("1")
    presses = {
        3: lambda: button(desk, "Buy").click(),
        14: lambda: button(desk, "Sell").click(),
        25: lambda: button(desk, "Buy").click(),
    }
    path = pictures.record(desk, "click-to-counter", presses, frames=44)
    expect(metric(desk, "Buy trades")).to_have_text("3")
    expect(metric(desk, "Sell trades")).to_have_text("2")
    assert path.stat().st_size < 2_000_000
