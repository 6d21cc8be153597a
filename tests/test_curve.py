"""CURVE from end to end: the keys of bin/keys, the real sidecar, and publishers with right and wrong keys."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import zmq
from harness.ports import free_port
from harness.program import Program
from harness.sidecar import Sidecar
from harness.tools import make_keys
from harness.waiting import eventually, get

from trading_app.publisher import TradePublisher


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path, "bot")


@pytest.fixture
def sidecar(tmp_path: Path, keys: Path) -> Iterator[Sidecar]:
    with Sidecar(tmp_path, SIDECAR_CURVE=str(keys / "server")) as running:
        yield running


def bought(sidecar: Sidecar) -> float:
    return sidecar.samples()['trades_total{side="buy"}']


def modes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): f"{path.stat().st_mode & 0o777:o}" for path in (folder, *folder.rglob("*"))}


def test_only_their_owner_may_read_the_keys(keys: Path) -> None:
    assert modes(keys) == {
        ".": "700",
        "server": "700",
        "server/server.key": "600",
        "server/server.key_secret": "600",
        "server/clients": "700",
        "server/clients/bot.key": "600",
        "bot": "700",
        "bot/client.key_secret": "600",
        "bot/server.key": "600",
    }


def test_existing_keys_are_kept(keys: Path) -> None:
    (keys / "server/clients/bot.key").unlink()  # making keys for another publisher must not allow this one again

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}

    before = contents()
    make_keys(keys.parents[1], "bot")
    assert contents() == before
    make_keys(keys.parents[1], "bot", "other")
    assert before.items() < contents().items()
    assert (keys / "other/server.key").read_bytes() == (keys / "bot/server.key").read_bytes()


def test_bin_keys_prints_the_settings(keys: Path) -> None:
    lines = run_keys(keys, "bot", "new").stdout.splitlines()
    assert lines == [
        "exists: SIDECAR_CURVE=.data/curve/server",
        "exists: WEBAPP_CURVE=.data/curve/bot",
        "made: WEBAPP_CURVE=.data/curve/new",
    ]


def test_a_failed_run_of_bin_keys_leaves_nothing_that_looks_complete(keys: Path) -> None:
    for part in "server.key", "clients":
        aside = (keys / "server" / part).rename(keys / "aside")
        failed = run_keys(keys, "new")
        assert (failed.returncode, failed.stdout) == (1, "exists: SIDECAR_CURVE=.data/curve/server\n")
        assert failed.stderr.startswith("bin/keys: ")
        assert not (keys / "new").exists()
        aside.rename(keys / "server" / part)
    assert run_keys(keys, "new").stdout.splitlines()[1] == "made: WEBAPP_CURVE=.data/curve/new"
    assert {path.name for path in (keys / "new").iterdir()} == {"client.key_secret", "server.key"}


@pytest.mark.parametrize("name", ["server", "../bot", "a b", ""])
def test_bin_keys_refuses_an_invalid_name(keys: Path, name: str) -> None:
    ended = run_keys(keys, name)
    assert ended.returncode == 2
    assert f"argument NAME: {name!r}: use up to 64 letters" in ended.stderr


def run_keys(keys: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, keys.parents[1] / "bin/keys", *names], capture_output=True, text=True, check=False
    )


def test_trades_of_an_allowed_publisher_are_counted(sidecar: Sidecar, keys: Path) -> None:
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url, curve=keys / "bot") as publisher:
        for _ in range(20_000):
            publisher.publish("buy")
        assert publisher.flush(30)
    assert bought(sidecar) == 20_000
    assert sidecar.samples()["sidecar_refused_total"] == 0


@pytest.mark.parametrize(
    "wrong, cause",
    [
        ("no keys", "it requires CURVE, or it is not a sidecar"),
        ("unknown key", "the sidecar does not allow this publisher's key"),
        ("wrong server key", "its key is not the one in server.key, it does not use CURVE, or it is not a sidecar"),
    ],
)
def test_a_publisher_with_wrong_keys_logs_the_cause_and_its_trades_wait(
    sidecar: Sidecar, keys: Path, wrong: str, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder: Path | None = None
    if wrong == "unknown key":
        (elsewhere := keys.parents[1] / "elsewhere").mkdir()
        folder = make_keys(elsewhere, "other") / "other"
        shutil.copy(keys / "bot/server.key", folder)
    elif wrong == "wrong server key":
        folder = keys / "bot"
        (folder / "server.key").write_text(f'public-key = "{zmq.curve_keypair()[0].decode()}"')
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url, curve=folder) as publisher:
        publisher.publish("buy")
        assert eventually(lambda: sidecar.samples()["sidecar_refused_total"] >= 4)
        publisher.close(0)
        assert publisher.pending == 1
    said = [line for line in caplog.messages if "refuses the connection" in line]
    assert said == [f"{sidecar.address} refuses the connection: {cause}. Trades wait in the journal"]
    assert bought(sidecar) == 0


def test_waiting_trades_are_delivered_once_their_key_is_allowed(sidecar: Sidecar, keys: Path, tmp_path: Path) -> None:
    certificate = keys / "server/clients/bot.key"
    certificate.rename(keys / "aside")
    assert eventually(lambda: "allowed keys: 0" in (tmp_path / "sidecar.log").read_text())
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url, curve=keys / "bot") as publisher:
        for _ in range(1000):
            publisher.publish("buy")
        assert eventually(lambda: sidecar.samples()["sidecar_refused_total"])
        (keys / "aside").rename(certificate)
        assert publisher.flush(30)
    assert bought(sidecar) == 1000


def test_a_publisher_recovers_after_the_sidecar_has_required_keys_for_a_while(sidecar: Sidecar, keys: Path) -> None:
    restart(sidecar, SIDECAR_CURVE="")
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        publisher.publish("buy")
        assert publisher.flush(20)
        restart(sidecar, SIDECAR_CURVE=str(keys / "server"))
        publisher.publish("buy")
        assert eventually(lambda: sidecar.samples()["sidecar_refused_total"])
        restart(sidecar, SIDECAR_CURVE="")
        assert publisher.flush(20)
    assert bought(sidecar) == 2


def restart(sidecar: Sidecar, **environ: str) -> None:
    sidecar.stop()
    sidecar.environ |= environ
    sidecar.start()
    assert eventually(sidecar.is_up)


def test_the_feed_reads_the_folder_of_its_keys_from_the_environment(
    sidecar: Sidecar, keys: Path, tmp_path: Path
) -> None:
    environ = {
        "WEBAPP_ZMQ_ADDR": sidecar.address,
        "WEBAPP_SIDECAR_URL": sidecar.url,
        "WEBAPP_OUTBOX": str(tmp_path / "outbox"),
        "WEBAPP_CURVE": str(keys / "bot"),
    }
    feed = Path(sys.executable).with_name("trading-feed")
    subprocess.run([feed, "--rate", "1000", "--count", "50"], env=environ, check=True, timeout=60)
    samples = sidecar.samples()
    assert sum(samples[f'trades_total{{side="{side}"}}'] for side in ("buy", "sell")) == 50


def test_the_api_reads_the_folder_of_its_keys_from_the_environment(
    sidecar: Sidecar, keys: Path, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    settings = {
        "WEBAPP_ZMQ_ADDR": sidecar.address,
        "WEBAPP_SIDECAR_URL": sidecar.url,
        "WEBAPP_OUTBOX": "",
        "WEBAPP_CURVE": str(keys / "bot"),
        "PORT": str(port),
    }
    api = Program(tmp_path / "log", [Path(sys.executable).with_name("trading-api")])
    api.environ |= settings
    with api:
        assert eventually(lambda: get(f"{url}/openapi.json")), api.output
        urlopen(Request(f"{url}/trade/buy", method="POST"), timeout=10).close()
        assert eventually(lambda: bought(sidecar) == 1)
