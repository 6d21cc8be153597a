"""Runs the sidecar as a process."""

import itertools
import json
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
# Settings of a program whose coverage is measured. It takes twice as long to start, and leaves no data if it is killed,
# so only a program that the tests of a file share is worth it.
MEASURED = {key: value for key, value in os.environ.items() if key == "COVERAGE_PROCESS_CONFIG"}


def eventually[Answer](answer: Callable[[], Answer], timeout: float = 20.0) -> Answer:
    """Repeat a question until its answer is true. Returns the last answer, true or not."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while not (last := answer()) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(1.5 * pause, 0.1)
    return last


def free_port() -> int:
    """A free port that no other process gets from this function at the same time."""
    return next(_free_ports)


def _ports_of_this_process() -> Iterator[int]:
    """Ports below the ephemeral range, from a block that this process reserves by binding its first port."""
    with socket.socket() as first:
        while not _can_bind(first, start := random.randrange(20_000, 32_000, 100)):
            continue
        for port in itertools.cycle(range(start + 1, start + 100)):
            with socket.socket() as probe:
                free = _can_bind(probe, port)
            if free:
                yield port


def _can_bind(holder: socket.socket, port: int) -> bool:
    try:
        holder.bind(("", port))
    except OSError:
        return False
    return True


_free_ports = _ports_of_this_process()


def environ(**settings: str) -> dict[str, str]:
    """The environment of a program. With `MEASURED` among its settings its coverage is measured."""
    return {key: value for key, value in os.environ.items() if key not in MEASURED} | settings


class Sidecar:
    """A sidecar process with its own ports, state file and log."""

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
        """Start the process and wait until it is healthy."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self.program,
                env=environ(**self.settings),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert eventually(self.is_up), self.output

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process group and wait for its end. Returns the exit code."""
        assert self._process
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        return self.wait()

    def wait(self) -> int:
        """Wait until the process ends by itself, and return its exit code."""
        assert self._process
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
        """The highest resident memory of the process so far, in bytes."""
        assert self._process
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(kilobytes) * 1024

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        """Return status, content type and body. The status is 0 if nobody answers."""
        try:
            with urlopen(Request(f"http://127.0.0.1:{self.port}{path}", headers=headers), timeout=10) as response:
                return response.status, response.headers["Content-Type"], response.read().decode()
        except HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()
        except OSError:
            return 0, "", ""

    def samples(self) -> dict[str, float]:
        """The samples of ``/metrics``, by name and labels."""
        lines = self.get("/metrics")[2].splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def bought(self) -> float:
        """Buys counted without a symbol."""
        return self.samples().get('trades_total{side="buy"}', 0.0)

    def next_seq(self, session: str) -> int:
        """The committed cursor of a session."""
        return int(json.loads(self.get(f"/sessions/{session}")[2])["next_seq"])

    def is_up(self) -> bool:
        return self.get("/health")[0] == 200


def run(sidecar: Sidecar) -> subprocess.CompletedProcess[str]:
    """Run a sidecar that exits by itself."""
    return subprocess.run(
        sidecar.program,
        env=environ(**sidecar.settings),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
