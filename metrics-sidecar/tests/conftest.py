import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import zmq
from sidecar_process import PROGRAM, Sidecar, eventually

# How long an example takes says something about the machine, not about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Callable[..., Sidecar]]:
    """Starts sidecars and waits until they are up; ends them when the test does."""
    started: list[Sidecar] = []

    def start(program: list[str] = PROGRAM, **settings: str) -> Sidecar:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        sidecar = Sidecar(folder, program, **settings)
        started.append(sidecar)
        sidecar.start()
        assert eventually(sidecar.is_up), sidecar.output
        return sidecar

    yield start
    for sidecar in started:
        sidecar.stop(signal.SIGKILL)


@pytest.fixture
def push() -> Iterator[Callable[[int], zmq.Socket[bytes]]]:
    """Makes PUSH sockets that are connected to a port."""
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
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        reason = f"cannot make a small disk, which takes Linux and root: {mounted.stderr.strip()}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
