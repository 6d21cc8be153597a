"""The simulated order flow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from app_process import FakeSidecar, eventually

from trading_app.outbox import Outbox
from trading_app.outbox_error import OutboxError
from trading_app.publisher import TradePublisher
from trading_app.segment import Segment
from trading_app.ui.simulator import FlowSettings, Load, Meter, Simulator

pytestmark = pytest.mark.slow


@pytest.fixture
def publisher(sidecar: FakeSidecar) -> Iterator[TradePublisher]:
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        yield publisher


def runs(simulator: Simulator) -> bool:
    return simulator.settings is not None


@pytest.fixture
def simulator(publisher: TradePublisher) -> Iterator[Simulator]:
    simulator = Simulator(publisher)
    yield simulator
    simulator.close()


def test_a_flow_publishes_until_it_is_stopped(
    simulator: Simulator, publisher: TradePublisher, sidecar: FakeSidecar
) -> None:
    assert not runs(simulator)
    settings = FlowSettings(rate=200.0, buys=1.0, symbols=("BTC-USD",))
    simulator.start(settings)
    assert simulator.settings == settings
    trades = [sidecar.receive() for _ in range(10)]
    assert {(trade["side"], trade["symbol"]) for trade in trades} == {("buy", "BTC-USD")}
    assert all(trade["price"] > 0 for trade in trades)
    simulator.stop()
    assert not runs(simulator)
    publisher.flush()
    sidecar.receive_all()
    assert sidecar.is_silent()


def test_a_flow_of_a_publisher_that_refuses_trades_ends_with_the_reason(
    simulator: Simulator, publisher: TradePublisher
) -> None:
    publisher.close()
    simulator.start(FlowSettings(rate=1000.0, buys=0.5))
    assert eventually(lambda: simulator.problem) == "the publisher is closed"
    assert eventually(lambda: not runs(simulator))


def test_a_second_start_does_not_change_the_running_flow(simulator: Simulator) -> None:
    simulator.start(FlowSettings(rate=1.0, buys=0.5))
    simulator.start(FlowSettings(rate=1000.0, buys=1.0))
    assert simulator.settings == FlowSettings(rate=1.0, buys=0.5)


def test_a_stopped_flow_can_be_started_again(simulator: Simulator, sidecar: FakeSidecar) -> None:
    for side, buys in ("buy", 1.0), ("sell", 0.0):
        simulator.start(FlowSettings(rate=1000.0, buys=buys))
        assert eventually(lambda: sidecar.receive()["side"] == side)  # noqa: B023
        simulator.stop()


def test_a_burst_is_published_during_a_flow(simulator: Simulator, sidecar: FakeSidecar) -> None:
    simulator.start(FlowSettings(rate=1.0, buys=0.0))
    simulator.burst(500, FlowSettings(rate=1.0, buys=1.0))
    sides = [sidecar.receive()["side"] for _ in range(500)]
    assert sides.count("buy") >= 495
    assert runs(simulator)


def test_load_is_the_rate_and_duration_of_publish_calls(simulator: Simulator) -> None:
    assert simulator.load is None
    simulator.start(FlowSettings(rate=200.0, buys=0.5))

    def is_as_set() -> bool:
        load = simulator.load
        return load is not None and load.calls == pytest.approx(200, rel=0.2) and 0 < load.seconds < 0.005

    assert eventually(is_as_set), simulator.load
    simulator.stop()
    assert eventually(lambda: simulator.load is None)


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_a_load_for_some_seconds() -> None:
    clock = Clock()
    meter = Meter(clock)
    for _ in range(10):
        meter.add([5e-6] * 1000)
        clock.now += 0.01
    clock.now += 2.5
    assert meter.read() == Load(10_000, 5e-6)
    clock.now += 5.0
    assert meter.read() is None


def test_a_slow_flow_has_a_load_although_its_calls_are_not_quite_regular() -> None:
    clock = Clock()
    meter = Meter(clock)
    for call in range(10):
        clock.now = 1000.0 + call + (0.002, 0.001)[call % 2]
        meter.add([5e-6])
        load = meter.read()
        assert call < 2 or (load and load.calls == pytest.approx(1.0, abs=0.01))


@pytest.mark.parametrize("interval", [1.0, 0.25])
def test_a_load_after_a_pause_does_not_include_the_pause(interval: float) -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.add([5e-6] * 1000)
    clock.now += 600.0
    for _ in range(round(1 / interval) + 1):
        meter.add([2e-6])
        clock.now += interval
    assert meter.read() == Load(1 / interval, 2e-6)


def test_a_flow_of_10_000_trades_per_second_keeps_up(simulator: Simulator, publisher: TradePublisher) -> None:
    first = int(publisher.publish("buy").seq)
    simulator.start(FlowSettings(rate=10_000.0, buys=0.5))
    load = eventually(lambda: simulator.load)
    simulator.stop()
    assert load
    assert publisher.publish("buy").seq - first > 5_000


class FullOutbox(Outbox):
    """An outbox whose disk is full while ``full`` is true."""

    full = False

    def create(self, size: int) -> Segment:
        if self.full:
            raise OutboxError("No space left on device")
        return super().create(size)


def test_a_full_disk_ends_the_flow_with_a_reason(sidecar: FakeSidecar, tmp_path: Path) -> None:
    outbox = FullOutbox(tmp_path / "outbox")
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url, outbox=outbox, capacity=8) as publisher:
        simulator = Simulator(publisher)
        outbox.full = True
        simulator.start(FlowSettings(rate=100.0, buys=0.5))
        assert eventually(lambda: simulator.problem)
        assert "No space left" in simulator.problem
        assert not runs(simulator)
        outbox.full = False
        sidecar.receive_all()
        simulator.start(FlowSettings(rate=100.0, buys=0.5))
        assert sidecar.receive()
        assert simulator.problem == ""
        simulator.close()
