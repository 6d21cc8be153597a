"""The stack in containers, as Docker Compose reads the files. No Docker engine is needed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.ports import free_port
from harness.program import Program
from harness.tools import ROOT, tool
from harness.waiting import eventually, get
from harness.workspace import Workspace

STACK = "infra/docker-compose.yml"
PROGRAMS = "infra/docker-compose.programs.yml"
STORAGE = "infra/docker-compose.storage.yml"
DATASOURCES = "/etc/grafana/provisioning/datasources"
PROJECTS = ["metrics-sidecar", "trading-app"]


def compose(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """Run ``docker compose config``, which validates the files against the schema of the Compose specification."""
    program = tool("docker-compose", "bin/setup --test installs it")
    arguments = [argument for file in files for argument in ("-f", file)]
    return subprocess.run(
        [program, *arguments, "config", "--format=json"], cwd=folder, capture_output=True, text=True, check=False
    )


def model(workspace: Workspace, *files: str) -> dict[str, Any]:
    read = compose(workspace.folder, *files)
    assert read.returncode == 0, read.stderr
    assert read.stderr == ""
    parsed: dict[str, Any] = json.loads(read.stdout)
    return parsed


def ports(service: dict[str, Any]) -> dict[str, int]:
    """The published ports. Only this machine may reach them."""
    assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}
    return {port["published"]: port["target"] for port in service["ports"]}


def volumes(service: dict[str, Any]) -> dict[str, str]:
    return {mount["source"]: mount["target"] for mount in service["volumes"] if mount["type"] == "volume"}


def binds(workspace: Workspace, service: dict[str, Any]) -> dict[str, str]:
    return {
        str(Path(mount["source"]).relative_to(workspace.folder)): mount["target"]
        for mount in service["volumes"]
        if mount["type"] == "bind" and mount["read_only"]
    }


def test_prometheus_finds_the_sidecar_on_the_host(workspace: Workspace) -> None:
    services = model(workspace, STACK)["services"]
    assert services.keys() == {"prometheus", "grafana"}
    assert services["prometheus"]["extra_hosts"] == ["metrics-sidecar=host-gateway"]
    assert ports(services["prometheus"]) == {"9090": 9090}
    assert ports(services["grafana"]) == {"3000": 3000}
    assert volumes(services["prometheus"]) == {"prometheus": "/prometheus"}
    assert volumes(services["grafana"]) == {"grafana": "/var/lib/grafana"}


def set_up(workspace: Workspace, folder: Path) -> None:
    """Run ``bin/setup`` with a uv that installs nothing."""
    (folder / "uv").write_text("#!/bin/sh\n")
    (folder / "uv").chmod(0o755)
    subprocess.run(["bin/setup"], cwd=workspace.folder, env={"PATH": f"{folder}:{os.environ['PATH']}"}, check=True)


def test_everyone_may_read_grafana_and_its_only_secret_is_the_password(workspace: Workspace, tmp_path: Path) -> None:
    """A secret is a file: Compose can copy nothing else into a container whose root is read-only."""
    set_up(workspace, tmp_path)
    stack = model(workspace, STACK)
    grafana = stack["services"]["grafana"]
    assert {key for key in grafana["environment"] if not key.startswith("GF_")} == set()
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert "GF_AUTH_ANONYMOUS_ORG_ROLE" not in grafana["environment"], "the default role is read-only"
    (secret,) = grafana["secrets"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{secret['source']}"
    file = Path(stack["secrets"][secret["source"]]["file"])
    assert re.fullmatch("[0-9a-f]{24}", file.read_text())
    # Grafana's own user reads the file; on the host only its owner may open the folder.
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_setup_keeps_a_password_from_the_dot_env_of_an_earlier_version(workspace: Workspace, tmp_path: Path) -> None:
    with (workspace.folder / ".env").open("a") as env:
        env.write("\nGF_SECURITY_ADMIN_PASSWORD=ours\n")
    set_up(workspace, tmp_path)
    assert (workspace.folder / ".secrets/grafana-password").read_text() == "ours"


def test_every_container_runs_with_the_least_privileges(workspace: Workspace) -> None:
    """All five containers stayed healthy within these limits on a real engine."""
    for name, service in model(workspace, STACK, PROGRAMS)["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) == 256 * 1024 * 1024, name
        assert service["pids_limit"] == 256, name


def test_prometheus_accepts_its_command_and_limits_its_storage(workspace: Workspace, tmp_path: Path) -> None:
    program = tool("prometheus", "apt-get install prometheus")
    command = model(workspace, STACK)["services"]["prometheus"]["command"]
    here = {"/etc/prometheus": str(ROOT / "infra/prometheus"), "/prometheus": str(tmp_path)}
    arguments = [re.sub(r"(?<==)(/etc)?/prometheus", lambda found: here[found[0]], part) for part in command]
    url = f"http://127.0.0.1:{workspace.prometheus_port}"
    command = [program, *arguments, f"--web.listen-address={url.removeprefix('http://')}"]
    with Program(tmp_path / "log", command):
        assert eventually(lambda: get(f"{url}/-/ready"))
        retention = json.loads(get(f"{url}/api/v1/status/runtimeinfo"))["data"]["storageRetention"]
    assert re.fullmatch(r"15d or 4(\.\d+)?Gi?B", retention)


def test_the_shipped_files_are_mounted_where_the_programs_look_for_them(workspace: Workspace) -> None:
    services = model(workspace, STACK)["services"]
    assert binds(workspace, services["prometheus"]) == {"infra/prometheus": "/etc/prometheus"}
    assert binds(workspace, services["grafana"]) == {
        "infra/grafana/dashboards": "/etc/grafana/dashboards",
        "infra/grafana/provisioning/dashboards": "/etc/grafana/provisioning/dashboards",
        "infra/grafana/provisioning/datasources/prometheus.yml": f"{DATASOURCES}/prometheus.yml",
    }


def test_with_storage_prometheus_writes_to_victoria_metrics_and_grafana_reads_from_it(workspace: Workspace) -> None:
    services = model(workspace, STACK, STORAGE)["services"]
    assert services.keys() == {"prometheus", "grafana", "victoria-metrics"}
    assert binds(workspace, services["prometheus"]) == {
        "infra/prometheus": "/etc/prometheus",
        "infra/prometheus/prometheus.storage.yml": "/etc/prometheus/prometheus.yml",
    }
    provisioned = "infra/grafana/provisioning/datasources/victoria-metrics.yml"
    assert binds(workspace, services["grafana"])[provisioned] == f"{DATASOURCES}/victoria-metrics.yml"
    (source,) = yaml.safe_load((ROOT / provisioned).read_text())["datasources"]
    assert source["url"] == "http://victoria-metrics:8428"
    assert not source.get("isDefault")
    assert volumes(services["victoria-metrics"]) == {"victoria-metrics": "/storage"}
    assert ports(services["victoria-metrics"]) == {"8428": 8428}
    flags = services["victoria-metrics"]["command"]
    assert "-storageDataPath=/storage" in flags
    assert "-retentionPeriod=1y" in flags, "docs/scaling.md says a year"


def test_dot_env_selects_the_compose_files(workspace: Workspace) -> None:
    assert model(workspace)["services"].keys() == {"prometheus", "grafana"}


def test_with_the_programs_prometheus_scrapes_the_sidecar_in_a_container(workspace: Workspace) -> None:
    services = model(workspace, STACK, PROGRAMS)["services"]
    assert services.keys() == {"prometheus", "grafana", "metrics-sidecar", "ui", "api"}
    assert "extra_hosts" not in services["prometheus"]
    assert len({tuple(service["networks"]) for service in services.values()}) == 1
    assert ports(services["metrics-sidecar"]) == {"5555": 5555, "8001": 8001}
    assert ports(services["ui"]) == {"8501": 8501}
    assert ports(services["api"]) == {"8000": 8000}
    # The image's default command and health check are those of the page.
    assert not services["ui"].get("command")
    assert services["api"]["command"] == ["trading-api"]
    assert "8000" in str(services["api"]["healthcheck"]["test"])
    for program in "ui", "api":
        assert services[program]["environment"]["WEBAPP_ZMQ_ADDR"] == "tcp://metrics-sidecar:5555"
        assert services[program]["environment"]["WEBAPP_SIDECAR_URL"] == "http://metrics-sidecar:8001"
        assert services[program]["environment"]["WEBAPP_PROMETHEUS_URL"] == "http://prometheus:9090"
        assert services[program]["environment"]["WEBAPP_GRAFANA_URL"] == "http://grafana:3000"


def test_state_and_outboxes_are_volumes(workspace: Workspace) -> None:
    services = model(workspace, STACK, PROGRAMS)["services"]
    assert volumes(services["metrics-sidecar"]) == {"sidecar-state": "/var/lib/metrics-sidecar"}
    assert Dockerfile("metrics-sidecar").environ()["SIDECAR_STATE"].startswith("/var/lib/metrics-sidecar/")
    assert volumes(services["ui"]) == volumes(services["api"]) == {"outbox": "/var/lib/trading-app"}
    assert Dockerfile("trading-app").environ()["WEBAPP_OUTBOX"].startswith("/var/lib/trading-app/")


def test_every_container_restarts_and_has_a_health_check(workspace: Workspace) -> None:
    for name, service in model(workspace, STACK, PROGRAMS, STORAGE)["services"].items():
        assert service["restart"] == "unless-stopped", name
        if "build" in service:
            assert "HEALTHCHECK" in Dockerfile(Path(service["build"]["context"]).name).final, name
        else:
            assert service["healthcheck"]["test"], name
            assert service["image"].rpartition(":")[2][-1].isdigit(), f"{name} has no pinned version"


def test_compose_reports_a_mistake_in_the_files(workspace: Workspace) -> None:
    file = workspace.folder / STACK
    assert "healthcheck:" in file.read_text()
    file.write_text(file.read_text().replace("healthcheck:", "healthchecks:"))
    assert "healthchecks" in compose(workspace.folder, STACK).stderr


class Dockerfile:
    """A project's Dockerfile: its two stages as lists of arguments by instruction."""

    def __init__(self, project: str) -> None:
        text = (ROOT / project / "Dockerfile").read_text().replace("\\\n", "")
        _, build, final = re.split(r"^FROM .*\n", text, flags=re.MULTILINE)
        self.build, self.final = self._read(build), self._read(final)

    def _read(self, stage: str) -> dict[str, list[str]]:
        read: dict[str, list[str]] = {}
        for line in stage.splitlines():
            if line and not line.startswith("#"):
                instruction, _, arguments = line.partition(" ")
                read.setdefault(instruction, []).append(arguments)
        return read

    def environ(self) -> dict[str, str]:
        """The variables of both stages, without those that make uv download and compile everything again."""
        pairs = [pair for stage in (self.build, self.final) for line in stage["ENV"] for pair in shlex.split(line)]
        environ = dict(pair.split("=", 1) for pair in pairs)
        del environ["UV_NO_CACHE"], environ["UV_COMPILE_BYTECODE"]
        return environ


class Image:
    """The result of the Dockerfile below ``root`` instead of ``/``, built from the files that .dockerignore allows."""

    def __init__(self, project: str, root: Path) -> None:
        self.dockerfile = Dockerfile(project)
        self.root = root
        self.environ = {key: self._here(value) for key, value in self.dockerfile.environ().items()}
        uv = Path(tool("uv", "bin/setup installs it into .tools/uv")).parent
        host = f"{sys.base_prefix}/bin:{os.environ['PATH']}:{uv}"
        self.environ["PATH"] = self.environ["PATH"].replace("/opt/", f"{root}/opt/").replace("$PATH", host)
        context, build = root / "context", root / "build"
        allowed = [line[1:] for line in (ROOT / project / ".dockerignore").read_text().splitlines() if line[0] == "!"]
        for name in allowed:
            copy(ROOT / project / name, context / name)
        for folder in ("build", "opt", f"var/lib/{project}"):
            (root / folder).mkdir(parents=True)
        for arguments in self.dockerfile.build["COPY"]:
            if not arguments.startswith("--from"):
                *names, target = arguments.split()
                for name in names:
                    source = context / name
                    copy(source, build / target / source.name if target.endswith("/") else build / target)
        for command in self.dockerfile.build["RUN"]:
            ran = subprocess.run(
                ["sh", "-ec", command],
                cwd=build,
                env={**os.environ, **self.environ},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert ran.returncode == 0, ran.stdout

    def _here(self, value: str) -> str:
        return re.sub(r"^/(?=opt/|var/)", f"{self.root}/", value)

    def program(self, port: int) -> Program:
        """The program of the image, with its state below ``root``."""
        (command,) = self.dockerfile.final["CMD"]
        program = Program(self.root / "log", json.loads(command))
        program.folder = self.root
        sidecar = {"SIDECAR_ZMQ_BIND": f"tcp://127.0.0.1:{free_port()}"}
        program.environ = {**self.environ, **sidecar, "PORT": str(port), "HOME": str(self.root)}
        return program

    def is_healthy(self, port: int) -> bool:
        """Run the image's health check."""
        check = self.dockerfile.final["HEALTHCHECK"][0].partition("CMD ")[2]
        exposed = self.dockerfile.final["EXPOSE"][0].split()
        asked = [part for part in exposed if part in check]
        assert len(asked) == 1
        command = [part.replace(asked[0], str(port)) for part in json.loads(check)]
        return subprocess.run(command, env=self.environ, capture_output=True, check=False).returncode == 0


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


@pytest.mark.parametrize("project", PROJECTS)
def test_an_image_contains_everything_its_program_needs_and_checks_its_health(project: str, tmp_path: Path) -> None:
    image = Image(project, tmp_path)
    port = free_port()
    assert not image.is_healthy(port)
    with image.program(port) as program:
        assert eventually(lambda: image.is_healthy(port)), program.output
    state = image.environ.get("SIDECAR_STATE") or image.environ["WEBAPP_OUTBOX"]
    assert Path(state).exists()


@pytest.mark.parametrize("project", PROJECTS)
def test_an_image_has_the_uv_of_the_lock_and_does_not_run_as_root(project: str) -> None:
    dockerfile = Dockerfile(project)
    locked = (ROOT / "locks/uv.txt").read_text().partition("uv==")[2].split()[0]
    assert f"--from=ghcr.io/astral-sh/uv:{locked} " in dockerfile.build["COPY"][0]
    (user,) = dockerfile.final["USER"]
    assert int(user) > 0
