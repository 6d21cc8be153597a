import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest
import zmq
from sidecar_process import PROGRAM, Sidecar, free_port

from metrics_sidecar import reloader, server
from metrics_sidecar.app import main

# The duration of an example depends on the machine, not on the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Callable[..., Sidecar]]:
    """Starts sidecars, waits until they are up, and kills them after the test."""
    started: list[Sidecar] = []

    def start(program: list[str] = PROGRAM, **settings: str) -> Sidecar:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Sidecar(folder, program, **settings))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop(signal.SIGKILL)


@pytest.fixture
def main_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Runs the command in this process, up to the point where it would serve."""

    def run_main(arguments: list[str], **settings: str) -> None:
        free = {"PORT": str(free_port()), "SIDECAR_ZMQ_BIND": f"tcp://127.0.0.1:{free_port()}"}
        for key, value in {"SIDECAR_STATE": str(tmp_path / "state.sqlite3"), **free, **settings}.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(sys, "argv", ["metrics-sidecar", *arguments])
        main()

    for module in server, reloader:
        monkeypatch.setattr(module, "run", lambda *_: None)
    # The log of this process is pytest's.
    monkeypatch.setattr(server, "configure_logging", lambda: None)
    return run_main


@pytest.fixture
def exit_line(main_with: Callable[..., None]) -> Callable[..., str]:
    """Runs the command in this process, and returns the line with which it exits."""

    def run_main(arguments: list[str], **settings: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main_with(arguments, **settings)
        assert isinstance(ended.value.code, str)
        return ended.value.code

    return run_main


@pytest.fixture
def push() -> Iterator[Callable[[int], zmq.Socket[bytes]]]:
    """Connects PUSH sockets to ports of this machine."""
    with zmq.Context() as context:
        sockets: list[zmq.Socket[bytes]] = []

        def connect(port: int) -> zmq.Socket[bytes]:
            sockets.append(context.socket(zmq.PUSH))
            sockets[-1].connect(f"tcp://127.0.0.1:{port}")
            return sockets[-1]

        yield connect
        for connected in sockets:
            connected.close(linger=0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB. Creating it requires Linux and root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        unavailable(f"cannot create a small file system, which requires Linux and root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def mount_namespace() -> list[str]:
    """Runs a command with mounts of its own. That requires Linux and root."""
    command = ["unshare", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        unavailable("cannot create a mount namespace, which requires Linux and root")
    return command


def unavailable(reason: str) -> NoReturn:
    """Skip the test; on CI, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
