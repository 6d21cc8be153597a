"""The real program, run as a process."""

import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

MAIN = "from metrics_sidecar.app import main; main()"
PROGRAM = [sys.executable, "-c", MAIN]


def eventually[Answer](answer: Callable[[], Answer], timeout: float = 20.0) -> Answer:
    """The first true answer; the last one if none comes in time."""
    deadline = time.monotonic() + timeout
    while not (last := answer()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return last


def free_port() -> int:
    """A port that nobody holds, nor is given by this function in another process."""
    return next(_free_ports)


def _ports_of_this_process() -> Iterator[int]:
    """Ports below those that the kernel gives to outgoing connections, of a block whose first this process holds."""
    with socket.socket() as first:
        while not _takes(first, start := random.randrange(20_000, 32_000, 100)):
            continue
        for port in itertools.cycle(range(start + 1, start + 100)):
            with socket.socket() as probe:
                free = _takes(probe, port)
            if free:
                yield port


def _takes(holder: socket.socket, port: int) -> bool:
    try:
        holder.bind(("", port))
    except OSError:
        return False
    return True


_free_ports = _ports_of_this_process()


class Sidecar:
    """The real program, on ports of its own."""

    def __init__(self, folder: Path, program: list[str], **settings: str) -> None:
        self.port, self.zmq_port = free_port(), free_port()
        self.settings = {
            "PORT": str(self.port),
            "SIDECAR_ZMQ_BIND": f"tcp://127.0.0.1:{self.zmq_port}",
            "SIDECAR_STATE": str(folder / "state.sqlite3"),
            **settings,
        }
        self.program = program
        self._output = folder / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self.program,
                env={**os.environ, **self.settings},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, with all it has started; SIGTERM as a person would, SIGKILL as fate would."""
        assert self._process
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        return self._process.wait(20)

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def peak_memory(self) -> int:
        """The most that it had resident, in bytes."""
        assert self._process
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(kilobytes) * 1024

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        """Status, content type and body; status 0 while nobody answers."""
        try:
            with urlopen(Request(f"http://127.0.0.1:{self.port}{path}", headers=headers), timeout=10) as response:
                return response.status, response.headers["Content-Type"], response.read().decode()
        except HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()
        except OSError:
            return 0, "", ""

    def samples(self) -> dict[str, float]:
        lines = self.get("/metrics")[2].splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def is_up(self) -> bool:
        return self.get("/health")[0] == 200


def run(sidecar: Sidecar) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which it is to find by itself."""
    return subprocess.run(
        sidecar.program,
        env={**os.environ, **sidecar.settings},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
