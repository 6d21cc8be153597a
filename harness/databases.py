"""Prometheus and VictoriaMetrics, with the shipped configuration."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from harness.program import Program
from harness.tools import ROOT, replace, tool
from harness.waiting import get


class Database(Program):
    """A server with Prometheus's query API."""

    def __init__(self, log: Path, command: list[str], url: str) -> None:
        super().__init__(log, command)
        self.url = url

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
        replace(self._config, "metrics-sidecar:8001", target)
        replace(self._config, "localhost:9090", f"127.0.0.1:{port}")
        if storage:
            replace(self._config, "victoria-metrics:8428", storage)
        command = [
            program,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *shipped_flags("docker-compose.yml", "prometheus"),
        ]
        super().__init__(folder / "log", command, f"http://127.0.0.1:{port}")

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

    def remove_scrape_configs(self) -> None:
        """Load the configuration again, without its scrape configurations."""
        self._config.write_text(self._config.read_text().partition("scrape_configs")[0])
        self.reload()


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
        super().__init__(folder / "log", command, f"http://{self.address}")


def shipped_flags(file: str, service: str) -> list[str]:
    """The flags of a service in a compose file, without those that contain a path."""
    command = yaml.safe_load((ROOT / "infra" / file).read_text())["services"][service]["command"]
    return [flag for flag in command if "/" not in flag]
