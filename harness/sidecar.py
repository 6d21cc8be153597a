"""The real sidecar."""

import json
import sys
from pathlib import Path

from harness.ports import free_port
from harness.program import Program
from harness.waiting import eventually, get


class Sidecar(Program):
    """The real sidecar, with its own ports and, in ``folder``, its own state file."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder / "sidecar.log", [Path(sys.executable).with_name("metrics-sidecar"), *arguments])
        settings = {
            "HOST": "127.0.0.1",
            "PORT": str(free_port()),
            "SIDECAR_ZMQ_BIND": f"tcp://127.0.0.1:{free_port()}",
            "SIDECAR_STATE": str(folder / "sidecar.sqlite3"),
            **environ,
        }
        self.environ |= settings
        self.address = settings["SIDECAR_ZMQ_BIND"]
        self.url = f"http://127.0.0.1:{settings['PORT']}"

    def is_up(self) -> bool:
        return "ok" in get(f"{self.url}/health")

    def wait_until_up(self) -> None:
        assert eventually(self.is_up), self.output

    def supervise(self) -> None:
        """Wait until it answers. If it ends before that, start it again, as a supervisor does."""

        def is_up() -> bool:
            if not self.runs:
                self.start()
            return self.is_up()

        assert eventually(is_up), self.output

    def next_seq(self, session: str) -> int:
        return int(json.loads(get(f"{self.url}/sessions/{session}"))["next_seq"])

    def samples(self) -> dict[str, float]:
        lines = get(f"{self.url}/metrics").splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}
