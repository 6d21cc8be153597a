"""CURVE on the publisher's side: what is said of keys that cannot work."""

from collections.abc import Callable
from pathlib import Path

import pytest
from app_process import FakeSidecar, run
from zmq.auth import create_certificates

from trading_app.curve import load_keys
from trading_app.publisher import TradePublisher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bot"
    folder.mkdir()
    create_certificates(folder, "server")
    create_certificates(folder, "client")
    (folder / "client.key_secret").chmod(0o600)
    return folder


def test_keys_are_those_of_the_folder(folder: Path) -> None:
    keys = load_keys(folder)
    secret = (folder / "client.key_secret").read_text()
    assert f'public-key = "{keys.public.decode()}"' in secret
    assert f'secret-key = "{keys.secret.decode()}"' in secret
    assert f'public-key = "{keys.server.decode()}"' in (folder / "server.key").read_text()


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.rename(path.with_name("gone")), "there is no {}/client.key_secret. Make it with bin/keys"),
    (lambda path: (path / "client.key_secret").unlink(), "there is no {}/client.key_secret. Make it with bin/keys"),
    (lambda path: (path / "server.key").unlink(), "there is no {}/server.key. Make it with bin/keys"),
    (lambda path: (path / "client.key").replace(path / "client.key_secret"), "{}/client.key_secret holds no secret"),
    (lambda path: (path / "client.key_secret").write_bytes(b"\xff"), "{}/client.key_secret holds no secret key. Make"),
    (lambda path: (path / "server.key").write_text('public-key = "short"'), "{}/server.key holds no public key. Copy"),
    (lambda path: (path / "server.key").write_text(f'public-key = "{",,,,," * 8}"'), "{}/server.key holds no public"),
]


@pytest.mark.parametrize("break_it, line", BROKEN)
def test_a_publisher_with_keys_that_cannot_work_is_not_made(
    folder: Path, break_it: Callable[[Path], object], line: str
) -> None:
    break_it(folder)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is looked at
        TradePublisher("tcp://127.0.0.1:1", sidecar_url="http://127.0.0.1:1", curve=folder)
    assert str(error.value).startswith(line.format(folder))


@pytest.mark.parametrize("module", ["api", "feed", "ui"])
def test_keys_that_cannot_work_end_a_program_with_one_line(tmp_path: Path, absent: FakeSidecar, module: str) -> None:
    ended = run(module, **absent.environ, WEBAPP_CURVE=str(tmp_path))
    assert ended.returncode == 1
    name = {"ui": "trading-app"}.get(module, f"trading-{module}")
    assert ended.stderr == (
        f"{name}: WEBAPP_CURVE={tmp_path}: there is no {tmp_path}/client.key_secret. Make it with bin/keys NAME\n"
    )


def test_a_secret_that_everyone_can_read_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "client.key_secret").chmod(0o644)
    TradePublisher("tcp://127.0.0.1:1", sidecar_url="http://127.0.0.1:1", curve=folder).close()
    assert "chmod 600" in caplog.text
