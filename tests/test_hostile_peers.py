"""The harm that one peer, or one wrong address, can do to a real sidecar and its publishers is limited."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import pytest
import zmq
from harness.sidecar import Sidecar
from harness.waiting import eventually

from trading_app import TradePublisher

type Start = Callable[[], Sidecar]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts sidecars, each in its own folder."""
    numbers = count()
    with ExitStack() as started:

        def start_one() -> Sidecar:
            return started.enter_context(Sidecar(tmp_path / str(next(numbers))))

        yield start_one


def counted(sidecar: Sidecar) -> float:
    return sum(value for name, value in sidecar.samples().items() if name.startswith("trades_total"))


def test_a_forged_gap_fill_loses_no_trade_of_its_victim(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    sidecar = start()
    with (
        TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher,
        zmq.Context() as context,
        context.socket(zmq.PUSH) as forger,
    ):
        publisher.publish("buy")
        assert publisher.flush(30)
        forger.connect(sidecar.address)
        forger.send(json.dumps({"type": "gap_fill", "session": publisher.session, "new_seq": 10**12 + 1}).encode())
        assert eventually(lambda: sidecar.samples()["trades_lost_total"] > 0)
        trades = [publisher.publish("buy") for _ in range(1000)]
        assert publisher.flush(30)
        assert {publisher.status(trade) for trade in trades} == {"delivered"}
    assert counted(sidecar) == 1001
    assert "was never published" in caplog.text
    assert sidecar.samples()["trades_lost_total"] == 10**12 - 1


def test_trades_to_one_sidecar_and_questions_to_another_do_not_flood_the_first(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = start(), start()
    started = time.monotonic()
    with closing(TradePublisher(one.address, sidecar_url=other.url)) as publisher:
        for _ in range(1000):
            publisher.publish("buy")
        assert eventually(lambda: one.samples()["sidecar_trades_duplicate_total"] > 0)
        time.sleep(5)  # the limit is a rate
        duplicates = one.samples()["sidecar_trades_duplicate_total"]
        # The pause before all are sent again doubles each time: 1 s, 2 s, 4 s.
        assert duplicates <= 1000 * (1 + int(math.log2(1 + time.monotonic() - started)))
        assert counted(one) == 1000
        publisher.close(timeout=0)
    (line,) = [line for line in caplog.messages if "no trade was committed" in line]
    assert one.address in line
    assert other.url in line
