"""The stack as a person runs it, on real parts, in a folder and on ports of its own."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[1]


def eventually[Answer](answer: Callable[[], Answer], timeout: float = 30.0) -> Answer:
    """The first true answer; the last one if none comes in time."""
    deadline = time.monotonic() + timeout
    while not (last := answer()) and time.monotonic() < deadline:
        time.sleep(0.02)
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


def tool(name: str, advice: str) -> str:
    """The path of a tool. Without it the test is skipped, and on CI it fails."""
    path = shutil.which(name)
    if path:
        return path
    reason = f"{name} is not installed: {advice}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def get(url: str) -> str:
    """The body, or nothing while nobody answers."""
    try:
        with urlopen(url, timeout=10) as response:
            body: str = response.read().decode()
            return body
    except OSError:
        return ""


def bare_environ() -> dict[str, str]:
    """The environment of a person who has activated nothing."""
    environ = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    active = str(Path(sys.executable).parent)
    environ["PATH"] = ":".join(folder for folder in environ["PATH"].split(":") if folder != active)
    return environ


def make_keys(folder: Path, *names: str) -> Path:
    """Run ``bin/keys`` for a workspace in ``folder``, and return where it makes the certificates."""
    (folder / "bin").mkdir(exist_ok=True)
    keys = shutil.copy(ROOT / "bin/keys", folder / "bin/keys")
    subprocess.run([sys.executable, keys, *names], stdout=subprocess.DEVNULL, check=True)
    return folder / ".data/curve"


class Workspace:
    """A copy of the sources, to be run and changed, with free ports in its ``.env``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sidecar_port, self.ui_port, self.api_port, self.zmq_port = (free_port() for _ in range(4))
        self.prometheus_port, self.grafana_port = free_port(), free_port()
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        settings = {
            "SIDECAR_HOST": "127.0.0.1",
            "SIDECAR_PORT": self.sidecar_port,
            "UI_PORT": self.ui_port,
            "API_PORT": self.api_port,
            "SIDECAR_ZMQ_BIND": f"tcp://127.0.0.1:{self.zmq_port}",
            "WEBAPP_ZMQ_ADDR": f"tcp://127.0.0.1:{self.zmq_port}",
            "WEBAPP_SIDECAR_URL": f"http://127.0.0.1:{self.sidecar_port}",
            "WEBAPP_PROMETHEUS_URL": f"http://127.0.0.1:{self.prometheus_port}",
            "WEBAPP_GRAFANA_URL": f"http://127.0.0.1:{self.grafana_port}",
            "WEBAPP_UI_URL": f"http://127.0.0.1:{self.ui_port}",
        }
        text = (folder / ".env.example").read_text()
        for key, value in settings.items():
            text, changed = re.subn(rf"^{key}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
            assert changed == 1, key
        (folder / ".env").write_text(text)

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def metrics(self) -> str:
        return f"http://127.0.0.1:{self.sidecar_port}/metrics"

    def sidecar_is_up(self) -> bool:
        return "ok" in get(f"http://127.0.0.1:{self.sidecar_port}/health")

    def page_is_up(self) -> bool:
        return bool(get(f"{self.page}/_stcore/health"))

    def api_is_up(self) -> bool:
        return bool(get(f"{self.api}/openapi.json"))


class Honcho:
    """``honcho start`` in a workspace, for all its programs or the named ones.

    ``command`` is another command that starts them, and ``path`` where it finds its tools.
    """

    def __init__(
        self, workspace: Workspace, *programs: str, command: Sequence[str] = ("honcho", "start"), path: str = ""
    ) -> None:
        self._output = workspace.folder / f"honcho-{'-'.join(programs) or 'all'}.log"
        # The copied sources come before the ones that the environment has installed.
        sources = [str(workspace.folder / project / "src") for project in ("metrics-sidecar", "trading-app")]
        environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{path or os.environ['PATH']}",
            "PYTHONPATH": ":".join(sources),
        }
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, *programs],
                cwd=workspace.folder,
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def groups(self) -> list[int]:
        """The process groups of the programs: honcho makes each the leader of its own."""
        return [int(pid) for pid in re.findall(r"started \(pid=(\d+)\)", self.output)]

    def ctrl_c(self) -> int:
        """What the keys do in a terminal: the foreground group gets the signal."""
        return self.stop(signal.SIGINT)

    def stop(self, number: signal.Signals) -> int:
        """Send the signal to the foreground group and wait for the end; the exit status."""
        os.killpg(self._process.pid, number)
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends by itself; the exit status."""
        return self._process.wait(30)

    def end(self) -> None:
        """Leave nothing behind, however the test went."""
        for group in (*self.groups, self._process.pid):
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait(30)


def is_gone(group: int) -> bool:
    """No process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


class Prometheus:
    """A real Prometheus with the shipped configuration and rules, only the target's address replaced."""

    def __init__(self, folder: Path, target: str, port: int) -> None:
        program = tool("prometheus", "apt-get install prometheus")
        shutil.copytree(ROOT / "infra/prometheus", folder)
        self._config = folder / "prometheus.yml"
        assert self._config.read_text().count("metrics-sidecar:8001") == 1
        self._config.write_text(self._config.read_text().replace("metrics-sidecar:8001", target))
        self.url = f"http://127.0.0.1:{port}"
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )

    def forget_the_job(self) -> None:
        """Load the configuration again, without a word on what to scrape."""
        self._config.write_text(self._config.read_text().partition("scrape_configs")[0])
        self._process.send_signal(signal.SIGHUP)

    def value(self, query: str) -> float | None:
        """What the query API answers to a query for one number, None if it has none."""
        result = self.query(query)
        return float(result[0]["value"][1]) if result else None

    def samples(self, series: str) -> list[tuple[float, float]]:
        """The scraped samples of a series in the last minutes: pairs of Unix time and value."""
        result = self.query(f"{series}[5m]")
        return [(float(at), float(value)) for at, value in result[0]["values"]] if result else []

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series of the query API's answer; none while nobody answers."""
        result: list[dict[str, Any]] = self.api(f"query?{urlencode({'query': query})}").get("result", [])
        return result

    def api(self, path: str) -> dict[str, Any]:
        """What the HTTP API has at ``path``; nothing while nobody answers."""
        answer = get(f"{self.url}/api/v1/{path}")
        data: dict[str, Any] = json.loads(answer)["data"] if answer else {}
        return data

    def end(self) -> None:
        self._process.kill()
        self._process.wait(30)
