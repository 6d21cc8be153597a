"""A publisher belongs to one sidecar: what happens when it meets another sidecar, or another state file."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness.ports import free_port
from harness.sidecar import Sidecar
from harness.waiting import eventually

from trading_app.publisher import TradePublisher

type Start = Callable[..., Sidecar]


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Start]:
    """Starts a named sidecar with its own state file."""
    with ExitStack() as started:

        def start(name: str, **environ: str) -> Sidecar:
            return started.enter_context(Sidecar(tmp_path / name, **environ))

        yield start


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


def test_a_publisher_without_waiting_trades_moves_to_another_sidecar_without_a_loss(
    sidecar: Start, tmp_path: Path
) -> None:
    old, new = sidecar("old"), sidecar("new")
    with publisher(old, outbox=tmp_path / "outbox") as before:
        publish(before, 10)
        assert before.flush(30)
    with publisher(new, outbox=tmp_path / "outbox") as after:
        publish(after, 5)
        assert after.flush(30)
    assert (counts(old), counts(new)) == ((10, 0), (5, 0))


def test_a_publisher_restarted_on_another_sidecar_sends_the_whole_segment_of_a_waiting_trade(
    sidecar: Start, tmp_path: Path
) -> None:
    """The outbox does not record what the old sidecar has committed: those trades count in both state files."""
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


def test_a_publisher_logs_that_another_sidecar_has_taken_over_and_no_trade_is_counted_twice(
    sidecar: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Each sidecar counts as lost what the other has counted."""
    first = sidecar("first")
    with publisher(first) as telemetry:
        publish(telemetry, 10)
        assert telemetry.flush(30)
        first.end()
        publish(telemetry, 5)
        second = sidecar("second", PORT=first.environ["PORT"], SIDECAR_ZMQ_BIND=first.address)
        assert telemetry.flush(30)
        assert "the sidecar has another state file than before" in caplog.text
        assert counts(second) == (5, 10)
        second.stop()
        first.start()
        publish(telemetry, 3)
        assert telemetry.flush(30)
        # Of the 18, 5 were counted by the second, and none is gone.
        assert counts(first) == (10 + 3, 5)


def test_trades_committed_after_a_restored_state_file_count_as_lost(
    sidecar: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = sidecar("sidecar")
    state = tmp_path / "sidecar/sidecar.sqlite3"
    with publisher(running) as telemetry:
        publish(telemetry, 10)
        assert telemetry.flush(30)
        running.stop()
        shutil.copy(state, tmp_path / "backup")
        running.start()
        publish(telemetry, 20)
        assert telemetry.flush(30)
        assert counts(running) == (30, 0)
        running.stop()
        shutil.copy(tmp_path / "backup", state)
        publish(telemetry, 5)
        running.start()
        assert telemetry.flush(30)
        assert counts(running) == (10 + 5, 20)
    log = (tmp_path / "sidecar/sidecar.log").read_text()
    assert "that were not counted are lost" in log
    assert "another state file" not in caplog.text, "the state_id is the same"


def test_a_restored_state_file_recovers_the_trades_that_an_outbox_still_has(sidecar: Start, tmp_path: Path) -> None:
    """An outbox keeps a whole segment as long as one of its trades waits."""
    running = sidecar("sidecar")
    state = tmp_path / "sidecar/sidecar.sqlite3"
    with publisher(running, outbox=tmp_path / "outbox") as before:
        publish(before, 10)
        assert before.flush(30)
        running.stop()
        shutil.copy(state, tmp_path / "backup")
        running.start()
        publish(before, 20)
        assert before.flush(30)
        running.stop()
        publish(before, 5)
        before.close(timeout=0)
    shutil.copy(tmp_path / "backup", state)
    running.start()
    with publisher(running, outbox=tmp_path / "outbox") as after:
        assert after.flush(30)
    assert counts(running) == (35, 0)


@pytest.mark.parametrize("right", ["taking", "asked"])
def test_trades_sent_to_one_sidecar_while_another_is_asked_wait_until_the_settings_are_corrected(
    sidecar: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, right: str
) -> None:
    """With both settings on the first sidecar, each trade counts once. On the second one they are counted again."""
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


def test_trades_are_counted_over_ipv6(sidecar: Start) -> None:
    running = sidecar("ipv6", SIDECAR_ZMQ_BIND=f"tcp://[::1]:{free_port()}")
    with publisher(running) as telemetry:
        publish(telemetry, 3)
        assert telemetry.flush(30)
    assert counts(running) == (3, 0)
