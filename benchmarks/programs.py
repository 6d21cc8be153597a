"""The measured processes, and the processes that produce their load."""

import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

from harness.sidecar import Sidecar

HERE = Path(__file__).parent


class NotInstalled(Exception):
    """A peer is not installed; the message says what to install."""


class Child:
    """A Python program of this folder. It prints a line when it is ready, and continues when it reads one.

    Like every program started here it has its own session, as under honcho: with autogroups, Linux divides processor
    time between sessions.
    """

    def __init__(self, name: str, *arguments: object) -> None:
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / name), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def read(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with {self._process.wait()}")
        return line.strip()

    def go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Usage:
    """The processor time of a process in seconds, from now on, and its peak memory in bytes, since its start."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._start = self._processor_seconds()

    @property
    def processor_seconds(self) -> float:
        return self._processor_seconds() - self._start

    @property
    def peak_bytes(self) -> int:
        return status(self._pid, "VmHWM")

    def _processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


class Peak:
    """The highest value of a figure of ``/proc/<pid>/status`` in a ``with`` block, in bytes, sampled every 20 ms."""

    def __init__(self, pid: int, key: str) -> None:
        self._pid, self._key = pid, key
        self.bytes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while True:
            self.bytes = max(self.bytes, status(self._pid, self._key))
            if self._end.wait(0.02):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def status(pid: int, key: str) -> int:
    """A figure of ``/proc/<pid>/status``, in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


class Scraper:
    """Scrapes ``/metrics`` over one connection, as Prometheus does."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(url.removeprefix("http://"), timeout=30)

    def scrape(self) -> bytes:
        self._connection.request("GET", "/metrics")
        return self._connection.getresponse().read()

    def total(self, sample: bytes) -> float:
        """The sum of the samples whose name and labels begin with ``sample``."""
        pattern = rb"^" + re.escape(sample) + rb"[^ ]* (\S+)"
        return sum(float(value) for value in re.findall(pattern, self.scrape(), re.MULTILINE))

    def time(self) -> float:
        started = time.perf_counter()
        self.scrape()
        return time.perf_counter() - started


def total(url: str, sample: bytes) -> float:
    """Like `Scraper.total`, over a new connection; 0 while nobody answers."""
    with suppress(OSError):
        return Scraper(url).total(sample)
    return 0.0


def answers(url: str) -> bool:
    with suppress(OSError):
        Scraper(url).scrape()
        return True
    return False


class RestartingSidecar(Sidecar):
    """A sidecar that is killed half a second after it starts to listen, and started again, until it is closed.

    A shell does this: forks of the measuring process would be part of the measurement.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        listens = "(: </dev/tcp/$HOST/$PORT) 2>/dev/null"
        restart = f'while true; do "$0" & until {listens}; do sleep 0.05; done; sleep 0.5; kill -KILL $!; wait; done'
        self.command = ["bash", "-c", restart, *self.command]
