"""Processes that are measured, and those that give them something to do."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

from chaos import Sidecar
from stack import eventually, free_port

HERE = Path(__file__).parent
# To look costs the one that is looked at, not to look is counted as its time.
POLL = 0.002, 0.25
# What has not moved for so long is taken to be all there is.
SILENCE = 3.0


class NotInstalled(Exception):
    """A peer that is not here, with what to install."""


class Child:
    """A Python program of this folder. It prints a line when it is ready, and reads one to go on.

    Like all that is started here it has a session of its own, as honcho gives one to what it starts: where autogroups
    are on, Linux shares a processor out by session.
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

    def finish(self) -> None:
        self._process.wait(600)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Usage:
    """Processor time of a process in seconds, since this was made, and its peak memory in bytes, since it began."""

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


def status(pid: int, key: str) -> int:
    """A figure of ``/proc/<pid>/status``, in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


class Scraper:
    """Asks for ``/metrics`` over one connection, as Prometheus does."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)

    def scrape(self) -> bytes:
        self._connection.request("GET", "/metrics")
        return self._connection.getresponse().read()

    def total(self, sample: bytes) -> float:
        """The sum of the samples whose name and labels begin like this."""
        pattern = rb"^" + re.escape(sample) + rb"[^ ]* (\S+)"
        return sum(float(value) for value in re.findall(pattern, self.scrape(), re.MULTILINE))

    def time(self) -> float:
        started = time.perf_counter()
        self.scrape()
        return time.perf_counter() - started


class Receiver:
    """A contestant that counts what is sent to ``address``, and shows it in its metrics as ``sample``."""

    def __init__(self, pid: int, address: str, port: int, sample: bytes) -> None:
        self.pid, self.address, self._sample = pid, address, sample
        self.url = f"http://127.0.0.1:{port}"
        self._scraper = Scraper(port)

    def wait(self, count: int) -> tuple[float, float]:
        """Wait until ``count`` trades are shown, or no more come; return how many, and when the last was seen."""
        began = seen_at = time.perf_counter()
        shown = 0.0
        while shown < count and time.perf_counter() - seen_at < SILENCE:
            # Half of what the rest will take at the rate so far.
            rest = (count - shown) * (seen_at - began) / shown if shown else POLL[1]
            time.sleep(min(max(rest / 2, POLL[0]), POLL[1]))
            if (total := self._scraper.total(self._sample)) > shown:
                shown, seen_at = total, time.perf_counter()
        return shown, seen_at


class BareReceiver(Receiver):
    """The one that has no metrics to look at: it says when it has counted all."""

    def __init__(self, child: Child, address: str) -> None:
        self.pid, self.address, self.url, self._child = child.pid, address, "", child

    def wait(self, _: int) -> tuple[float, float]:
        return float(self._child.read()), time.perf_counter()


@contextmanager
def sidecar(folder: Path) -> Iterator[Sidecar]:
    """The side-car itself, with its state in the folder."""
    program = Sidecar(folder)
    try:
        program.start()
        assert eventually(program.is_up), (folder / "sidecar.log").read_text()
        yield program
    finally:
        program.close()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


@contextmanager
def sidecar_receiver(folder: Path, _: int) -> Iterator[Receiver]:
    with sidecar(folder) as program:
        yield Receiver(program.pid, program.address, port_of(program.url), b"trades_total")


@contextmanager
def bare_receiver(_: Path, count: int) -> Iterator[Receiver]:
    address = f"tcp://127.0.0.1:{free_port()}"
    with Child("peers/bare.py", address, count) as child:
        child.read()
        yield BareReceiver(child, address)


@contextmanager
def tutorial_receiver(_: Path, __: int) -> Iterator[Receiver]:
    address, port = f"tcp://127.0.0.1:{free_port()}", free_port()
    with Child("peers/tutorial.py", address, port) as child:
        child.read()
        yield Receiver(child.pid, address, port, b"trades_total")


@contextmanager
def collectd_receiver(folder: Path, _: int) -> Iterator[Receiver]:
    """Debian's collectd with its statsd and write_prometheus plugins.

    Raises:
        NotInstalled: it, or a library of one of the plugins, is not here.
    """
    advice = "apt-get install collectd-core libprotobuf-c1 libmicrohttpd12"
    if not (collectd := shutil.which("collectd", path="/usr/sbin:/usr/bin:/opt/homebrew/sbin")):
        raise NotInstalled(f"collectd is not installed ({advice})")
    statsd, port = free_port(), free_port()
    config = folder / "collectd.conf"
    config.write_text((HERE / "peers/collectd.conf").read_text().format(folder=folder, statsd=statsd, port=port))
    with (folder / "collectd.log").open("w") as log:
        process = subprocess.Popen([collectd, "-f", "-C", str(config)], stdout=log, stderr=log, start_new_session=True)
    try:
        if not eventually(lambda: process.poll() is not None or answers(port), 10) or process.poll() is not None:
            raise NotInstalled(f"collectd does not start ({advice}?): {(folder / 'collectd.log').read_text()[-300:]}")
        yield Receiver(process.pid, f"127.0.0.1:{statsd}", port, b'collectd_statsd_derive_total{statsd="trades')
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with suppress(OSError):
        Scraper(port).scrape()
        return True
    return False


type Start = Callable[[Path, int], AbstractContextManager[Receiver]]
