"""The stack as a user runs it: real programs, in their own folder and on their own ports."""

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
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# `bin/setup --test` unpacks newer programs here than those that the system has installed.
UNPACKED = ROOT / ".tools/debian"


def eventually[Answer](answer: Callable[[], Answer], timeout: float = 30.0) -> Answer:
    """Call ``answer`` until it returns something true, and return that; after ``timeout``, return its last answer."""
    deadline = time.monotonic() + timeout
    pause = 0.01
    while not (last := answer()) and time.monotonic() < deadline:
        time.sleep(pause)
        # Polling takes processor time from other tests.
        pause = min(1.5 * pause, 0.2)
    return last


def free_port() -> int:
    """A free port. No other process gets it from this function."""
    return next(_free_ports)


def _ports_of_this_process() -> Iterator[int]:
    """Ports below the kernel's range for outgoing connections. Holding the first port of a block reserves it."""
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


def tool(name: str, advice: str) -> str:
    """The path of a tool. If it is missing, the test is skipped; on CI it fails.

    With ``SYSTEM_TOOLS`` in the environment, the path is that of the system's own tool.
    """
    return find_tool(name) or unavailable(f"{name} is not installed: {advice}")


def find_tool(name: str) -> str | None:
    """The path of a tool, or None if it is not installed."""
    folders = os.environ["PATH"] if os.environ.get("SYSTEM_TOOLS") else f"{UNPACKED}:{os.environ['PATH']}"
    return shutil.which(name, path=folders)


def unavailable(reason: str) -> NoReturn:
    """Skip the test; on CI, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def shipped_flags(file: str, service: str) -> list[str]:
    """The flags of a service in a compose file, without those that contain a path."""
    command = yaml.safe_load((ROOT / "infra" / file).read_text())["services"][service]["command"]
    return [flag for flag in command if "/" not in flag]


def get(url: str) -> str:
    """The body of the response, or an empty string while nobody answers."""
    try:
        with urlopen(url, timeout=10) as response:
            body: str = response.read().decode()
            return body
    except OSError:
        return ""


def bare_environ() -> dict[str, str]:
    """The environment without an active virtual environment."""
    environ = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    active = str(Path(sys.executable).parent)
    environ["PATH"] = ":".join(folder for folder in environ["PATH"].split(":") if folder != active)
    return environ


def make_keys(folder: Path, *names: str) -> Path:
    """Run ``bin/keys`` for a workspace in ``folder``, and return the folder of the certificates."""
    (folder / "bin").mkdir(exist_ok=True)
    keys = shutil.copy(ROOT / "bin/keys", folder / "bin/keys")
    subprocess.run([sys.executable, keys, *names], stdout=subprocess.DEVNULL, check=True)
    return folder / ".data/curve"


@cache
def _sources() -> list[str]:
    """The files of the repository that a workspace needs: the projects, infra, and what starts them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    left_out = re.compile(r"(benchmarks|docs|examples|harness|tests)/")
    return [name for name in listed.stdout.splitlines() if not left_out.match(name) and (ROOT / name).exists()]


class Workspace:
    """A copy of the programs, to be run and changed, with free ports in its ``.env``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sidecar_port, self.ui_port, self.api_port, self.zmq_port = (free_port() for _ in range(4))
        self.prometheus_port, self.grafana_port = free_port(), free_port()
        for name in _sources():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
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
    """``honcho start`` in a workspace, for all programs or the named ones.

    ``command`` replaces it; ``path`` is the PATH on which the command finds its tools.
    """

    def __init__(
        self, workspace: Workspace, *programs: str, command: Sequence[str] = ("honcho", "start"), path: str = ""
    ) -> None:
        self.workspace = workspace
        self._output = workspace.folder / f"honcho-{'-'.join(programs) or 'all'}.log"
        # The copied sources take precedence over those installed in the environment.
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
        """The process groups of the programs: honcho gives each program its own."""
        return [int(pid) for pid in re.findall(r"started \(pid=(\d+)\)", self.output)]

    def ctrl_c(self) -> int:
        """Send SIGINT to the foreground group, as a terminal does on Ctrl-C; return the exit status."""
        return self.stop(signal.SIGINT)

    def stop(self, number: signal.Signals) -> int:
        """Send the signal to the foreground group, wait for its end, and return the exit status."""
        os.killpg(self._process.pid, number)
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends by itself, and return the exit status."""
        return self._process.wait(30)

    def end(self) -> None:
        """Kill everything that is left."""
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


class Database:
    """A real server with Prometheus's query API. It can be ended and started again."""

    def __init__(self, command: list[str], log: Path, url: str) -> None:
        self._command = command
        self._log = log
        self.url = url
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def value(self, query: str) -> float | None:
        """The value of a query for one number, or None if there is none."""
        result = self.query(query)
        return float(result[0]["value"][1]) if result else None

    def samples(self, series: str) -> list[tuple[float, float]]:
        """The samples of a series in the last five minutes: pairs of Unix time and value."""
        result = self.query(f"{series}[5m]")
        return [(float(at), float(value)) for at, value in result[0]["values"]] if result else []

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series that a query returns; none while nobody answers."""
        result: list[dict[str, Any]] = self.api(f"query?{urlencode({'query': query})}").get("result", [])
        return result

    def api(self, path: str) -> dict[str, Any]:
        """The data of the HTTP API at ``path``; empty while nobody answers."""
        answer = get(f"{self.url}/api/v1/{path}")
        data: dict[str, Any] = json.loads(answer)["data"] if answer else {}
        return data

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait(30)


class Prometheus(Database):
    """A real Prometheus with the shipped flags, configuration and rules; only the addresses are replaced.

    Args:
        folder: the folder of its configuration and data.
        target: the sidecar's host and port.
        port: its own port.
        storage: the host and port of a VictoriaMetrics. If set, the configuration with long-term storage is used.
    """

    def __init__(self, folder: Path, target: str, port: int, storage: str = "") -> None:
        program = tool("prometheus", "apt-get install prometheus")
        shutil.copytree(ROOT / "infra/prometheus", folder)
        self._config = folder / ("prometheus.storage.yml" if storage else "prometheus.yml")
        self._replace("metrics-sidecar:8001", target)
        self._replace("localhost:9090", f"127.0.0.1:{port}")
        if storage:
            self._replace("victoria-metrics:8428", storage)
        command = [
            program,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *shipped_flags("docker-compose.yml", "prometheus"),
        ]
        super().__init__(command, folder / "log", f"http://127.0.0.1:{port}")

    @property
    def major(self) -> int:
        """Its major version."""
        version: str = self.api("status/buildinfo")["version"]
        return int(version.partition(".")[0])

    def set_targets(self, job: str, *addresses: str) -> None:
        """Replace the additional targets of a job."""
        file = self._config.parent / "targets" / job / "test.yml"
        # Renamed when complete: Prometheus reads the file as soon as it appears.
        (written := file.with_suffix(".new")).write_text(json.dumps([{"targets": addresses}]))
        written.rename(file)

    def reload(self) -> None:
        """Load the configuration and the rules again."""
        self.send(signal.SIGHUP)

    def forget_the_job(self) -> None:
        """Load the configuration again, without its scrape configurations."""
        self._config.write_text(self._config.read_text().partition("scrape_configs")[0])
        self.reload()

    def _replace(self, shipped: str, tested: str) -> None:
        text = self._config.read_text()
        assert text.count(shipped) == 1
        self._config.write_text(text.replace(shipped, tested))


class VictoriaMetrics(Database):
    """A real VictoriaMetrics with the shipped flags."""

    def __init__(self, folder: Path, port: int) -> None:
        program = tool("victoria-metrics", "bin/setup --test unpacks it")
        folder.mkdir()
        self.address = f"127.0.0.1:{port}"
        command = [
            program,
            f"-storageDataPath={folder / 'data'}",
            f"-httpListenAddr={self.address}",
            *shipped_flags("docker-compose.storage.yml", "victoria-metrics"),
        ]
        super().__init__(command, folder / "log", f"http://{self.address}")
