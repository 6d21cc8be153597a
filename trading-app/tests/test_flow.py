"""The order flow in the background."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_process import FakeSidecar, eventually

from trading_app.outbox import Outbox, OutboxError
from trading_app.publisher import TradePublisher
from trading_app.segment import Segment
from trading_app.ui.flow import Flow, Mix


@pytest.fixture
def publisher(sidecar: FakeSidecar) -> Iterator[TradePublisher]:
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        yield publisher


def runs(flow: Flow) -> bool:
    return flow.mix is not None


def test_it_publishes_until_it_is_stopped(publisher: TradePublisher, sidecar: FakeSidecar) -> None:
    flow = Flow(publisher)
    assert not runs(flow)
    flow.start(Mix(rate=200.0, buys=1.0))
    assert flow.mix == Mix(rate=200.0, buys=1.0)
    assert {sidecar.receive()["side"] for _ in range(10)} == {"buy"}
    flow.stop()
    assert not runs(flow)
    publisher.flush()
    sidecar.receive_all()
    assert sidecar.is_silent()


def test_one_flow_runs_for_all(publisher: TradePublisher) -> None:
    flow = Flow(publisher)
    flow.start(Mix(rate=1.0, buys=0.5))
    flow.start(Mix(rate=1000.0, buys=1.0))
    assert flow.mix == Mix(rate=1.0, buys=0.5)
    flow.stop()
    flow.stop()


def test_it_can_be_started_again(publisher: TradePublisher, sidecar: FakeSidecar) -> None:
    flow = Flow(publisher)
    for side, buys in ("buy", 1.0), ("sell", 0.0):
        flow.start(Mix(rate=1000.0, buys=buys))
        assert eventually(lambda: sidecar.receive()["side"] == side)  # noqa: B023
        flow.stop()


def test_a_burst_goes_out_beside_a_running_flow(publisher: TradePublisher) -> None:
    flow = Flow(publisher)
    flow.start(Mix(rate=1.0, buys=0.5))
    started = time.monotonic()
    flow.burst(500, buys=0.5)
    assert time.monotonic() - started < 5
    assert runs(flow)
    flow.stop()
    assert publisher.flush()


class FullOutbox(Outbox):
    """An outbox whose disk can be full at the wanted instant."""

    full = False

    def create(self, size: int) -> Segment:
        if self.full:
            raise OutboxError("No space left on device")
        return super().create(size)


def test_an_outbox_that_takes_nothing_ends_it_with_a_reason(sidecar: FakeSidecar, tmp_path: Path) -> None:
    outbox = FullOutbox(tmp_path / "outbox")
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url, outbox=outbox, capacity=8) as publisher:
        flow = Flow(publisher)
        outbox.full = True
        flow.start(Mix(rate=100.0, buys=0.5))
        assert eventually(lambda: flow.problem)
        assert "No space left" in flow.problem
        assert not runs(flow)
        outbox.full = False
        sidecar.receive_all()
        flow.start(Mix(rate=100.0, buys=0.5))
        assert sidecar.receive()
        assert flow.problem == ""
        flow.stop()
