"""The programs that count trades: the sidecar and its alternatives."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from harness.ports import free_port
from harness.sidecar import Sidecar
from harness.tools import make_keys
from harness.waiting import eventually

from benchmarks.programs import HERE, Child, NotInstalled, Scraper, answers

# Frequent scrapes slow the receiver down; rare ones add to its time.
_POLL = 0.002, 0.25
# The count is final when it has not changed for this long.
_SILENCE = 2.0


class Receiver:
    """Counts the trades sent to ``address``, and shows the total in its metrics at ``url`` as ``sample``."""

    def __init__(self, pid: int, address: str, url: str, sample: bytes) -> None:
        self.pid, self.address, self.url, self._sample = pid, address, url, sample
        self.sender_options: list[str] = []
        self._scraper = Scraper(url)

    def wait(self, count: int) -> tuple[float, float]:
        """Wait until ``count`` trades are shown, or the count stops; return the count, and when it last changed."""
        began = seen_at = time.perf_counter()
        shown = 0.0
        while shown < count and time.perf_counter() - seen_at < _SILENCE:
            # Half of the time for the rest at the rate so far.
            rest = (count - shown) * (seen_at - began) / shown if shown else _POLL[1]
            time.sleep(min(max(rest / 2, _POLL[0]), _POLL[1]))
            if (total := self._scraper.total(self._sample)) > shown:
                shown, seen_at = total, time.perf_counter()
        return shown, seen_at


class BareReceiver(Receiver):
    """The receiver without metrics: it prints a line when it has counted all trades."""

    def __init__(self, child: Child, address: str) -> None:
        self.pid, self.address, self.url, self._child = child.pid, address, "", child
        self.sender_options = []

    def wait(self, _: int) -> tuple[float, float]:
        return float(self._child.read()), time.perf_counter()


@contextmanager
def sidecar(folder: Path, _: int) -> Iterator[Receiver]:
    with Sidecar(folder) as program:
        yield Receiver(program.pid, program.address, program.url, b"trades_total")


@contextmanager
def sidecar_with_curve(folder: Path, _: int) -> Iterator[Receiver]:
    keys = make_keys(folder, "bench")
    with Sidecar(folder, SIDECAR_CURVE=str(keys / "server")) as program:
        receiver = Receiver(program.pid, program.address, program.url, b"trades_total")
        receiver.sender_options = [f"--curve={keys / 'bench'}"]
        yield receiver


@contextmanager
def bare(_: Path, count: int) -> Iterator[Receiver]:
    address = f"tcp://127.0.0.1:{free_port()}"
    with Child("peers/bare.py", address, count) as child:
        child.read()
        yield BareReceiver(child, address)


@contextmanager
def tutorial(_: Path, __: int) -> Iterator[Receiver]:
    address, port = f"tcp://127.0.0.1:{free_port()}", free_port()
    with Child("peers/tutorial.py", address, port) as child:
        child.read()
        yield Receiver(child.pid, address, f"http://127.0.0.1:{port}", b"trades_total")


@contextmanager
def collectd(folder: Path, _: int) -> Iterator[Receiver]:
    """Debian's collectd with its statsd and write_prometheus plugins.

    Raises:
        NotInstalled: collectd, or a library of one of its plugins, is not installed.
    """
    advice = "apt-get install collectd-core libprotobuf-c1 libmicrohttpd12"
    if not (program := shutil.which("collectd", path="/usr/sbin:/usr/bin:/opt/homebrew/sbin")):
        raise NotInstalled(f"collectd is not installed ({advice})")
    statsd, port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    config = folder / "collectd.conf"
    config.write_text((HERE / "peers/collectd.conf").read_text().format(folder=folder, statsd=statsd, port=port))
    with (folder / "collectd.log").open("w") as log:
        process = subprocess.Popen([program, "-f", "-C", str(config)], stdout=log, stderr=log, start_new_session=True)
    try:
        if not eventually(lambda: process.poll() is not None or answers(url), 10) or process.poll() is not None:
            raise NotInstalled(f"collectd does not start ({advice}?): {(folder / 'collectd.log').read_text()[-300:]}")
        yield Receiver(process.pid, f"127.0.0.1:{statsd}", url, b'collectd_statsd_derive_total{statsd="trades')
    finally:
        process.kill()
        process.wait()


type Start = Callable[[Path, int], AbstractContextManager[Receiver]]
