"""The programs as a user runs them, in a folder of their own and on their own ports."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness.ports import free_port
from harness.program import Program, kill_group
from harness.tools import ROOT
from harness.waiting import get


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


class Honcho(Program):
    """``honcho start`` in a workspace, for all programs or the named ones.

    ``command`` replaces it; ``path`` is the PATH on which the command finds its tools.
    """

    def __init__(
        self, workspace: Workspace, *programs: str, command: Sequence[str] = ("honcho", "start"), path: str = ""
    ) -> None:
        # A log of its own: it names the programs to be killed.
        number = len(list(workspace.folder.glob("honcho-*.log")))
        log = workspace.folder / f"honcho-{number}.log"
        log.touch()
        super().__init__(log, [*command, *programs])
        self.workspace = workspace
        self.folder = workspace.folder
        # The copied sources take precedence over those installed in the environment.
        sources = [str(workspace.folder / project / "src") for project in ("metrics-sidecar", "trading-app")]
        self.environ["PATH"] = f"{Path(sys.executable).parent}:{path or os.environ['PATH']}"
        self.environ["PYTHONPATH"] = ":".join(sources)

    @property
    def groups(self) -> list[int]:
        """The process groups of the programs: honcho gives each program its own."""
        return [int(pid) for pid in re.findall(r"started \(pid=(\d+)\)", self.output)]

    def ctrl_c(self) -> int:
        """Send SIGINT to the foreground group, as a terminal does on Ctrl-C; return the exit status."""
        return self.stop(signal.SIGINT)

    def end(self) -> None:
        super().end()
        for group in self.groups:
            kill_group(group)
