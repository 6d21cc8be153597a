"""The loop, asked while somebody looks."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from app_process import FakeSidecar, eventually

from trading_app.settings import Settings
from trading_app.ui.loop import message, stations
from trading_app.ui.watch import View, Watch

type Watching = Callable[[FakeSidecar], Watch]


def settings(sidecar: FakeSidecar) -> Settings:
    return Settings.from_environ(port=8501, environ=sidecar.environ)


@pytest.fixture
def watching() -> Iterator[Watching]:
    watches: list[Watch] = []

    def watch(sidecar: FakeSidecar) -> Watch:
        watches.append(Watch(settings(sidecar)))
        return watches[-1]

    yield watch
    for watch_ in watches:
        watch_.close()


def test_the_first_look_has_an_answer(sidecar: FakeSidecar, watching: Watching) -> None:
    view = watching(sidecar).look()
    assert view.sidecar == ""
    assert view.totals
    assert view.totals.trades == {"buy": 3.0, "sell": 1.0}


def test_a_look_sees_what_has_changed(sidecar: FakeSidecar, watching: Watching) -> None:
    watch = watching(sidecar)
    assert watch.look().sidecar == ""
    sidecar.close()
    assert eventually(lambda: watch.look().sidecar)
    assert watch.look().totals, "the last known"
    sidecar.open()
    assert eventually(lambda: not watch.look().sidecar)


def test_nobody_is_asked_while_nobody_looks(sidecar: FakeSidecar, watching: Watching) -> None:
    watch = watching(sidecar)
    looked = watch.look()

    def asks_no_more() -> bool:
        asked = sidecar.requests
        time.sleep(1.5)
        return sidecar.requests == asked

    assert eventually(asks_no_more)
    assert eventually(lambda: watch.look().asked_at > looked.asked_at + 1)


def states(sidecar: FakeSidecar, waiting: int, view: View) -> dict[str, str]:
    return {station.name: station.state for station in stations(settings(sidecar), waiting, view)}


UP = View(asked_at=100.0, sidecar="", prometheus="", grafana="", scraped=True)


@pytest.mark.parametrize(
    "waiting, view, expected",
    [
        (0, UP, ["nothing waits", "up", "up", "up"]),
        (1, UP, ["1 trade waits", "up", "up", "up"]),
        (2000, View(), ["2,000 trades wait", "away", "not running", "not running"]),
        (0, View(sidecar="", prometheus="", grafana=""), ["nothing waits", "up", "misses the side-car", "up"]),
    ],
)
def test_each_part_of_the_loop_has_its_state(
    sidecar: FakeSidecar, waiting: int, view: View, expected: list[str]
) -> None:
    assert list(states(sidecar, waiting, view).values()) == expected


@pytest.mark.parametrize(
    "waiting, lost, view, kind, words",
    [
        (0, 0, UP, "success", "All is well"),
        (9_999, 0, UP, "success", "All is well"),
        (10_000, 0, UP, "warning", "falls behind.** 10,000 trades wait here; there is room for 990,000 more"),
        (
            0,
            0,
            View(sidecar="Connection refused"),
            "warning",
            "away** (Connection refused). New trades wait here",
        ),
        (1, 0, View(sidecar="timed out"), "warning", "1 trade waits here, and will go on by themselves"),
        (1_000_000, 12_345, View(sidecar="timed out"), "error", "Trades are being lost"),
        (1_000_000, 12_345, UP, "error", "12,345 so far"),
        (0, 12_345, replace(UP, lost=7.0), "warning", "7 trades were lost"),
    ],
)
def test_what_matters_most_is_said_in_words(waiting: int, lost: int, view: View, kind: str, words: str) -> None:
    said = message(waiting, 1_000_000, lost, view)
    assert said.kind == kind
    assert words in said.text
