"""A publisher belongs to one sidecar. What happens where it meets another one, or another state of its own."""

import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.chaos import Sidecar
from harness.stack import eventually

from trading_app.publisher import TradePublisher

type Start = Callable[..., Sidecar]


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Start]:
    """Starts a sidecar with a name and a state of its own."""
    started: list[Sidecar] = []

    def start(name: str, **environ: str) -> Sidecar:
        folder = tmp_path / name
        folder.mkdir()
        running = Sidecar(folder, **environ)
        started.append(running)
        running.start()
        assert eventually(running.is_up)
        return running

    yield start
    for running in started:
        running.close()


def publisher(trades_to: Sidecar, asks: Sidecar | None = None, outbox: Path | None = None) -> TradePublisher:
    return TradePublisher(trades_to.address, sidecar_url=(asks or trades_to).url, outbox=outbox)


def publish(publisher: TradePublisher, trades: int) -> None:
    for _ in range(trades):
        publisher.publish("buy")


def counts(sidecar: Sidecar) -> tuple[float, float]:
    """Trades counted, and trades lost."""
    assert eventually(sidecar.is_up)
    samples = sidecar.samples()
    return samples['trades_total{side="buy"}'], samples["trades_lost_total"]


def test_a_publisher_that_has_nothing_waiting_moves_without_a_trace(sidecar: Start, tmp_path: Path) -> None:
    old, new = sidecar("old"), sidecar("new")
    with publisher(old, outbox=tmp_path / "outbox") as before:
        publish(before, 10)
        assert before.flush(30)
    with publisher(new, outbox=tmp_path / "outbox") as after:
        publish(after, 5)
        assert after.flush(30)
    assert (counts(old), counts(new)) == ((10, 0), (5, 0))


def test_a_publisher_that_is_restarted_on_another_sidecar_sends_the_whole_segment_that_holds_a_waiting_trade(
    sidecar: Start, tmp_path: Path
) -> None:
    """The outbox does not tell what the old sidecar has committed: that counts in both states."""
    old, new = sidecar("old"), sidecar("new")
    with publisher(old, outbox=tmp_path / "outbox") as before:
        publish(before, 10)
        assert before.flush(30)
        old.end()
        publish(before, 5)
        before.close(timeout=0)
    with publisher(new, outbox=tmp_path / "outbox") as after:
        publish(after, 3)
        assert after.flush(30)
    old.start()
    assert (counts(old), counts(new)) == ((10, 0), (10 + 5 + 3, 0))


def test_where_another_sidecar_takes_the_place_the_publisher_says_so_and_nothing_counts_twice(
    sidecar: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Each counts as lost what the other has counted."""
    first = sidecar("first")
    with publisher(first) as telemetry:
        publish(telemetry, 10)
        assert telemetry.flush(30)
        first.end()
        publish(telemetry, 5)
        second = sidecar("second", PORT=first.environ()["PORT"], SIDECAR_ZMQ_BIND=first.address)
        assert telemetry.flush(30)
        assert "the sidecar has another state file than before" in caplog.text
        assert counts(second) == (5, 10)
        second.end(signal.SIGTERM)
        first.start()
        publish(telemetry, 3)
        assert telemetry.flush(30)
        # Of the 18, 5 were counted by the second, and none is gone.
        assert counts(first) == (10 + 3, 5)


def test_an_old_state_file_counts_as_lost_what_came_after_it(
    sidecar: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = sidecar("sidecar")
    state = tmp_path / "sidecar/sidecar.sqlite3"
    with publisher(running) as telemetry:
        publish(telemetry, 10)
        assert telemetry.flush(30)
        running.end(signal.SIGTERM)
        shutil.copy(state, tmp_path / "backup")
        running.start()
        publish(telemetry, 20)
        assert telemetry.flush(30)
        assert counts(running) == (30, 0)
        running.end(signal.SIGTERM)
        shutil.copy(tmp_path / "backup", state)
        publish(telemetry, 5)
        running.start()
        assert telemetry.flush(30)
        assert counts(running) == (10 + 5, 20)
    log = (tmp_path / "sidecar/sidecar.log").read_text()
    assert "gone for good" in log
    assert "another state file" not in caplog.text, "it has the same state_id"


def test_an_old_state_file_gets_back_what_an_outbox_still_holds(sidecar: Start, tmp_path: Path) -> None:
    """It holds the whole segment as long as one of its trades waits."""
    running = sidecar("sidecar")
    state = tmp_path / "sidecar/sidecar.sqlite3"
    with publisher(running, outbox=tmp_path / "outbox") as before:
        publish(before, 10)
        assert before.flush(30)
        running.end(signal.SIGTERM)
        shutil.copy(state, tmp_path / "backup")
        running.start()
        publish(before, 20)
        assert before.flush(30)
        running.end(signal.SIGTERM)
        publish(before, 5)
        before.close(timeout=0)
    shutil.copy(tmp_path / "backup", state)
    running.start()
    with publisher(running, outbox=tmp_path / "outbox") as after:
        assert after.flush(30)
    assert counts(running) == (35, 0)


@pytest.mark.parametrize("right", ["taking", "asked"])
def test_trades_that_go_to_one_sidecar_while_another_is_asked_wait_for_ever(
    sidecar: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, right: str
) -> None:
    """Put right to the one that has counted them, nothing was lost nor counted twice. The other one counts them too."""
    taking, asked = sidecar("taking"), sidecar("asked")
    with publisher(taking, asks=asked, outbox=tmp_path / "outbox") as wrong, caplog.at_level(logging.WARNING):
        publish(wrong, 10)
        assert eventually(lambda: counts(taking) == (10, 0))
        assert eventually(lambda: taking.samples()["sidecar_trades_duplicate_total"] >= 10), "it sends them again"
        assert eventually(lambda: f"trades go to {taking.address}; cursors come from {asked.url}" in caplog.text)
        assert (wrong.pending, wrong.lost) == (10, 0)
        assert counts(asked) == (0, 0)
        wrong.close(timeout=0)
    mended = {"taking": taking, "asked": asked}[right]
    with publisher(mended, outbox=tmp_path / "outbox") as after:
        assert after.flush(30)
    assert counts(taking) == (10, 0)
    assert counts(asked) == ((0, 0) if right == "taking" else (10, 0))
