"""What bin/dev runs once all is set up: the programs of the Procfile, with Prometheus and Grafana beside them."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from honcho.environ import expand_processes, parse, parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "infra/prometheus"
# What the shipped configuration names, and the settings that say where it is on this machine.
TARGETS = {
    "metrics-sidecar:8001": "SIDECAR_PORT",
    "ui:8501": "UI_PORT",
    "api:8000": "API_PORT",
    "localhost:9090": "PROMETHEUS_PORT",
}
PROGRAMS_IN_CONTAINERS = "docker-compose.programs.yml"
LAST_LINES = 5


class Stack(NamedTuple):
    """Prometheus and Grafana, or what there is of them.

    ``program`` is a name and a shell command that stays in the foreground; ``stop`` ends what it leaves behind.
    """

    news: str
    program: tuple[str, str] | None = None
    stop: tuple[str, ...] = ()


def find_stack(settings: dict[str, str]) -> Stack:
    """The best that this machine can run: containers, else a Prometheus of its own, else nothing."""
    if compose_answers():
        return containers(settings)
    if program := shutil.which("prometheus"):
        return prometheus(program, settings)
    return Stack(f"Prometheus and Grafana are not running: {advice()}")


def advice() -> str:
    if shutil.which("docker"):
        return "start Docker's engine, then docker compose up -d --wait"
    if shutil.which("brew"):
        return "brew install prometheus"
    if shutil.which("apt-get"):
        return "sudo apt-get install prometheus"
    return "install Docker, or Prometheus"


def compose_answers() -> bool:
    """Whether a Docker engine runs, and its client has Compose."""
    return succeeds("docker", "compose", "version") and succeeds("docker", "info")


def succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def containers(settings: dict[str, str]) -> Stack:
    # The programs run here, not in containers.
    files = settings.get("COMPOSE_FILE", "infra/docker-compose.yml").split(":")
    here = ":".join(file for file in files if not file.endswith(PROGRAMS_IN_CONTAINERS))
    settings["COMPOSE_FILE"] = os.environ["COMPOSE_FILE"] = here
    where = "Grafana at http://localhost:3000, Prometheus at http://localhost:9090"
    running = subprocess.run(["docker", "compose", "ps", "--quiet"], capture_output=True, check=False).stdout
    if running:
        return Stack(f"{where} (already running; they keep running afterwards)")
    failed = (
        "Prometheus and Grafana did not start; the programs keep running. To try again: docker compose up -d --wait"
    )
    command = (
        f"docker compose up --detach --wait && echo {shlex.quote(where)} || echo {shlex.quote(failed)};"
        " exec tail -f /dev/null"
    )
    return Stack(f"{where}, as soon as their containers are up", ("stack", command), ("docker", "compose", "down"))


def prometheus(program: str, settings: Mapping[str, str]) -> Stack:
    url = settings.get("WEBAPP_PROMETHEUS_URL") or "http://localhost:9090"
    parts = urlsplit(url)
    port = parts.port or 9090
    if parts.hostname not in {"localhost", "127.0.0.1"}:
        return Stack(f"Prometheus runs on another machine: {url}")
    if listens(port):
        return Stack(
            f"Another program has port {port}. If it is Debian's service: sudo systemctl disable --now prometheus"
        )
    folder = ROOT / ".data"
    configure(folder / "prometheus-config", {**settings, "PROMETHEUS_PORT": str(port)})
    arguments = [
        f"--config.file={folder / 'prometheus-config/prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        # As in infra/docker-compose.yml. Version 2 says that it does not know the feature, and goes on.
        "--enable-feature=created-timestamp-zero-ingestion",
        "--storage.tsdb.retention.time=15d",
        "--storage.tsdb.retention.size=4GB",
        "--log.level=warn",
    ]
    command = f"exec {shlex.join([program, *arguments])}"
    return Stack(f"Prometheus at {url}; Grafana needs a Docker engine", ("prometheus", command))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def configure(folder: Path, settings: Mapping[str, str]) -> None:
    """Lay the shipped configuration into ``folder``, with addresses of this machine for those of containers."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in SHIPPED.iterdir():
        (folder / path.name).symlink_to(path)
    text = (SHIPPED / "prometheus.yml").read_text()
    for address, key in TARGETS.items():
        port = settings.get(key) or address.partition(":")[2]
        text = re.sub(rf"\b{address}\b", f"localhost:{port}", text)
    (folder / "prometheus.yml").unlink()
    (folder / "prometheus.yml").write_text(text)


class Output:
    """Prints what the programs print, and remembers which of them ended first, and its last lines."""

    def __init__(self) -> None:
        self.width = 0
        self.after_each_line: Callable[[], None] = lambda: None
        self._printer = Printer(sys.stdout)
        self._lines: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))
        self._stopping = False
        self._verdict: tuple[str, int] | None = None

    def write(self, message: Any) -> None:
        """Called by honcho for each line, its own included, after it has started all programs."""
        signal.signal(signal.SIGHUP, hang_up)
        self._printer.width = self.width
        self._printer.write(message)
        text = message.data.decode(errors="replace") if isinstance(message.data, bytes) else message.data
        if message.name == "system":
            self._read_system(text.strip())
        elif text.strip():
            self._lines[message.name].append(text.rstrip())
        self.after_each_line()

    def _read_system(self, text: str) -> None:
        if stopped := re.fullmatch(r"(\S+) stopped \(rc=(-?\d+)\)", text):
            self._verdict = self._verdict or (None if self._stopping else (stopped[1], int(stopped[2])))
        # Whoever ends from here on was told to.
        self._stopping |= text.endswith(" received") or stopped is not None

    @property
    def verdict(self) -> str:
        """Which program ended by itself and why, or nothing."""
        if not self._verdict:
            return ""
        name, code = self._verdict
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        remedy = " bin/dev --no-stack does without it." if name.startswith("prometheus.") else ""
        lines = "".join(f"\n  {line}" for line in self._lines[name])
        last = f" Its last lines:{lines}" if lines else " It said nothing."
        return f"{name.partition('.')[0]} {how}, so everything else was stopped.{remedy}{last}"


class Programs(Manager):  # type: ignore[misc] # honcho has no types
    """Ends the programs only after all have started: honcho cannot end one whose process id it does not know."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        self._must_end = False
        output.after_each_line = self._end_if_told

    def terminate(self) -> None:
        self._must_end = True
        self._end_if_told()

    def _end_if_told(self) -> None:
        if self._must_end and self._all_started():
            super().terminate()


def hang_up(_number: int, _frame: FrameType | None) -> None:
    # The terminal is gone: what is printed from here on would be an error.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    signal.raise_signal(signal.SIGTERM)


def run(settings: Mapping[str, str], stack: Stack) -> int:
    """Run everything until a signal comes or a program ends; the exit status."""
    programs = parse_procfile((ROOT / "Procfile").read_text()).processes
    if stack.program:
        programs[stack.program[0]] = stack.program[1]
    output = Output()
    manager = Programs(output)
    for process in expand_processes(programs, env=settings):
        manager.add_process(process.name, process.cmd, env={**os.environ, **process.env})
    # Children inherit that SIGHUP is ignored: honcho's readers must outlive the programs, to show their last lines.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    manager.loop()
    if stack.stop:
        # Of its own session: a second Ctrl-C must not leave containers behind.
        subprocess.run(stack.stop, start_new_session=True, check=False)
    if output.verdict:
        print(f"\n{output.verdict}", file=sys.stderr)
    code: int = manager.returncode
    return code if code >= 0 else 128 - code


def main() -> None:
    os.chdir(ROOT)
    settings: dict[str, str] = parse(Path(".env").read_text())
    stack = Stack("skipped (--no-stack)") if "--no-stack" in sys.argv else find_stack(settings)
    print(
        f"""
  page      http://localhost:{settings.get("UI_PORT") or 8501}
  API       http://localhost:{settings.get("API_PORT") or 8000}/docs
  metrics   http://localhost:{settings.get("SIDECAR_PORT") or 8001}/metrics
  stack     {stack.news}
""",
        flush=True,
    )
    sys.exit(run(settings, stack))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
