"""The client in examples/node, a second implementation of the contract, against a real sidecar that is killed."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness.program import Program
from harness.sidecar import Sidecar
from harness.tools import ROOT, tool
from harness.waiting import eventually

RATE = 1_000
# The quantities that publish.mjs publishes, with alternating sides.
QUANTITIES = [(number % 100 + 1) / 4 for number in range(20_000)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder, with its locked dependencies installed."""
    tool("node", "apt-get install nodejs")
    npm = tool("npm", "apt-get install npm")
    folder = tmp_path_factory.mktemp("client") / "node"
    shutil.copytree(ROOT / "examples/node", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return folder


class NodeClient(Program):
    """A process that publishes trades, 1,000 a second."""

    def __init__(self, client: Path, sidecar: Sidecar, count: int) -> None:
        command = ["node", str(client / "publish.mjs"), "--rate", str(RATE), str(count)]
        super().__init__(client.with_name(f"{count}.log"), command)
        self.environ |= {"WEBAPP_ZMQ_ADDR": sidecar.address, "WEBAPP_SIDECAR_URL": sidecar.url}


@pytest.fixture
def publish(client: Path, sidecar: Sidecar) -> Iterator[Callable[[int], NodeClient]]:
    """Starts a client that publishes that many trades to the sidecar."""
    with ExitStack() as started:

        def start(count: int) -> NodeClient:
            return started.enter_context(NodeClient(client, sidecar, count))

        yield start


def test_every_trade_is_counted_once_although_the_sidecar_is_killed(
    sidecar: Sidecar, publish: Callable[[int], NodeClient]
) -> None:
    publishing = publish(len(QUANTITIES))
    for _ in range(4):
        assert eventually(grows(sidecar))
        assert counted(sidecar) < len(QUANTITIES), "it must be killed while trades are published"
        # Trades that arrive now are lost with the process. The client sends again after a question times out at 0.5 s.
        sidecar.send(signal.SIGSTOP)
        time.sleep(0.7)
        sidecar.end()
        sidecar.start()
    assert publishing.wait(60) == 0, publishing.output
    for side, quantities in ("buy", QUANTITIES[::2]), ("sell", QUANTITIES[1::2]):
        assert total(sidecar, f'trades_total{{side="{side}"') == len(quantities)
        assert total(sidecar, f'volume_total{{side="{side}"') == sum(quantities)
    assert total(sidecar, "trades_lost_total") == 0


def test_the_trades_in_a_deleted_state_file_count_as_lost(
    sidecar: Sidecar, publish: Callable[[int], NodeClient], tmp_path: Path
) -> None:
    publishing = publish(5_000)
    # More than a few frames, so that the client has seen some of them committed.
    assert eventually(lambda: counted(sidecar) > 3_000)
    sidecar.end()
    for path in tmp_path.glob("sidecar.sqlite3*"):
        path.unlink()
    sidecar.start()
    assert publishing.wait(60) == 0, publishing.output
    lost = total(sidecar, "trades_lost_total")
    assert 0 < lost < 5_000
    assert counted(sidecar) + lost == 5_000
    assert "another state file" in publishing.output


FULL_BUFFER = """
import { TradePublisher } from "./telemetry.mjs";
const { WEBAPP_ZMQ_ADDR: address, WEBAPP_SIDECAR_URL: url } = process.env;
const publisher = new TradePublisher({ address, url, capacity: 80 });
for (let number = 0; number < 200; number++) publisher.publish("buy", 1);
console.log(publisher.pending, publisher.lost);
process.exitCode = (await publisher.close(30_000)) ? 0 : 1;
"""


def test_a_full_buffer_drops_the_oldest_trades_which_count_as_lost(client: Path, sidecar: Sidecar) -> None:
    environ = {**os.environ, "WEBAPP_ZMQ_ADDR": sidecar.address, "WEBAPP_SIDECAR_URL": sidecar.url}
    script = ["node", "--input-type=module", "--eval", FULL_BUFFER]
    ended = subprocess.run(script, cwd=client, env=environ, check=True, capture_output=True, text=True)
    pending, lost = map(int, ended.stdout.split())
    assert 70 <= pending <= 80
    assert pending + lost == 200
    assert counted(sidecar) == pending
    assert total(sidecar, "trades_lost_total") == lost


def grows(sidecar: Sidecar) -> Callable[[], bool]:
    """Returns a condition: more trades are counted than now."""
    assert eventually(sidecar.is_up)
    before = counted(sidecar)
    return lambda: counted(sidecar) > before


def counted(sidecar: Sidecar) -> float:
    return total(sidecar, "trades_total{")


def total(sidecar: Sidecar, series: str) -> float:
    """The sum of the series whose names and labels begin with ``series``."""
    return sum(value for name, value in sidecar.samples().items() if name.startswith(series))
