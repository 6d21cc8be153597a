"""The CURVE keys of a publisher, and the errors about invalid ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from app_process import FakeSidecar, run
from zmq.auth import create_certificates

from trading_app.curve import CurveError, load_keys
from trading_app.publisher import TradePublisher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bot"
    folder.mkdir()
    create_certificates(folder, "server")
    create_certificates(folder, "client")
    (folder / "client.key_secret").chmod(0o600)
    return folder


def test_keys_are_read_from_the_folder(folder: Path) -> None:
    keys = load_keys(folder)
    secret = (folder / "client.key_secret").read_text()
    assert f'public-key = "{keys.public.decode()}"' in secret
    assert f'secret-key = "{keys.secret.decode()}"' in secret
    assert f'public-key = "{keys.server.decode()}"' in (folder / "server.key").read_text()


NO_SECRET = "{}/client.key_secret holds no secret key. Make another with bin/keys NAME"
NO_SERVER = "{}/server.key holds no public key. Copy it from the folder that bin/keys made"


@pytest.mark.parametrize(
    "damage, line",
    [
        pytest.param(
            lambda path: path.rename(path.with_name("gone")),
            "there is no {}/client.key_secret. Make it with bin/keys NAME",
            id="no folder",
        ),
        pytest.param(
            lambda path: (path / "client.key_secret").unlink(),
            "there is no {}/client.key_secret. Make it with bin/keys NAME",
            id="no client.key_secret",
        ),
        pytest.param(
            lambda path: (path / "server.key").unlink(),
            "there is no {}/server.key. Make it with bin/keys NAME",
            id="no server.key",
        ),
        pytest.param(
            lambda path: (path / "client.key").replace(path / "client.key_secret"), NO_SECRET, id="public key only"
        ),
        pytest.param(
            lambda path: (path / "client.key_secret").write_bytes(b"\xff"), NO_SECRET, id="client.key_secret not text"
        ),
        pytest.param(
            lambda path: (path / "client.key_secret").write_text("secret-key\n"), NO_SECRET, id="a name without a key"
        ),
        pytest.param(
            lambda path: (path / "server.key").write_text('public-key = "short"'), NO_SERVER, id="short server key"
        ),
        pytest.param(
            lambda path: (path / "server.key").write_text(f'public-key = "{",,,,," * 8}"'), NO_SERVER, id="not Z85"
        ),
    ],
)
def test_invalid_keys_are_refused_with_the_remedy(folder: Path, damage: Callable[[Path], object], line: str) -> None:
    damage(folder)
    with pytest.raises(CurveError) as error:
        TradePublisher("tcp://127.0.0.1:1", sidecar_url="http://127.0.0.1:1", curve=folder)
    assert str(error.value) == line.format(folder)


def test_missing_keys_end_the_feed_with_one_line(tmp_path: Path, absent: FakeSidecar) -> None:
    ended = run("feed", **absent.environ, WEBAPP_CURVE=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr == (
        f"trading-feed: WEBAPP_CURVE={tmp_path}: there is no {tmp_path}/client.key_secret. Make it with bin/keys NAME\n"
    )


def test_a_secret_that_every_user_can_read_logs_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "client.key_secret").chmod(0o644)
    TradePublisher("tcp://127.0.0.1:1", sidecar_url="http://127.0.0.1:1", curve=folder).close()
    assert f"every user of this machine can use {folder}/client.key_secret: chmod 600 it" in caplog.text


def test_a_secret_that_only_its_owner_can_read_logs_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    TradePublisher("tcp://127.0.0.1:1", sidecar_url="http://127.0.0.1:1", curve=folder).close()
    assert caplog.messages == []
