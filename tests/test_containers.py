"""The stack in containers, as Docker Compose itself reads the files; no Docker engine is needed for that."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack import ROOT, Workspace, tool

STACK = "infra/docker-compose.yml"
PROGRAMS = "infra/docker-compose.programs.yml"
STORAGE = "infra/docker-compose.storage.yml"
DATASOURCES = "/etc/grafana/provisioning/datasources"
PROJECTS = ["metrics-sidecar", "trading-app"]


def compose(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """What ``docker compose config`` says, which holds the files against the schema of the Compose specification."""
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
    """The published ports, which nothing but this machine may reach."""
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


def test_prometheus_finds_the_side_car_on_the_host(workspace: Workspace) -> None:
    services = model(workspace, STACK)["services"]
    assert services.keys() == {"prometheus", "grafana"}
    assert services["prometheus"]["extra_hosts"] == ["metrics-sidecar=host-gateway"]
    assert ports(services["prometheus"]) == {"9090": 9090}
    assert ports(services["grafana"]) == {"3000": 3000}
    assert volumes(services["prometheus"]) == {"prometheus": "/prometheus"}
    assert volumes(services["grafana"]) == {"grafana": "/var/lib/grafana"}


def test_grafana_is_readable_for_all_and_has_its_password_from_dot_env(workspace: Workspace) -> None:
    with (workspace.folder / ".env").open("a") as env:
        env.write("\nGF_SECURITY_ADMIN_PASSWORD=a secret\n")
    environment = model(workspace, STACK)["services"]["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "a secret"
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert "GF_AUTH_ANONYMOUS_ORG_ROLE" not in environment, "the default may only look"


def test_the_shipped_files_are_where_the_programs_look_for_them(workspace: Workspace) -> None:
    services = model(workspace, STACK)["services"]
    assert binds(workspace, services["prometheus"]) == {"infra/prometheus": "/etc/prometheus"}
    assert binds(workspace, services["grafana"]) == {
        "infra/grafana/dashboards": "/etc/grafana/dashboards",
        "infra/grafana/provisioning/dashboards": "/etc/grafana/provisioning/dashboards",
        "infra/grafana/provisioning/datasources/prometheus.yml": f"{DATASOURCES}/prometheus.yml",
    }


def test_with_storage_prometheus_sends_and_grafana_reads(workspace: Workspace) -> None:
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


def test_dot_env_says_what_docker_compose_runs(workspace: Workspace) -> None:
    """Then the commands are short."""
    assert model(workspace)["services"].keys() == {"prometheus", "grafana"}


def test_with_the_programs_the_side_car_is_a_container(workspace: Workspace) -> None:
    services = model(workspace, STACK, PROGRAMS)["services"]
    assert services.keys() == {"prometheus", "grafana", "metrics-sidecar", "ui", "api"}
    assert "extra_hosts" not in services["prometheus"]
    assert len({tuple(service["networks"]) for service in services.values()}) == 1
    assert ports(services["metrics-sidecar"]) == {"5555": 5555, "8001": 8001}
    assert ports(services["ui"]) == {"8501": 8501}
    assert ports(services["api"]) == {"8000": 8000}
    # The image's own command and health check are those of the page.
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
    assert "SIDECAR_STATE=/var/lib/metrics-sidecar/" in dockerfile("metrics-sidecar")
    assert volumes(services["ui"]) == volumes(services["api"]) == {"outbox": "/var/lib/trading-app"}
    assert "WEBAPP_OUTBOX=/var/lib/trading-app/" in dockerfile("trading-app")


def test_every_container_comes_back_and_tells_its_health(workspace: Workspace) -> None:
    for name, service in model(workspace, STACK, PROGRAMS, STORAGE)["services"].items():
        assert service["restart"] == "unless-stopped", name
        if "build" in service:
            assert "HEALTHCHECK" in dockerfile(Path(service["build"]["context"]).name), name
        else:
            assert service["healthcheck"]["test"], name
            assert service["image"].rpartition(":")[2][-1].isdigit(), f"{name} has no pinned version"


def test_a_mistake_in_the_files_would_be_found(workspace: Workspace) -> None:
    file = workspace.folder / STACK
    file.write_text(file.read_text().replace("healthcheck:", "healthchecks:"))
    assert "healthchecks" in compose(workspace.folder, STACK).stderr


def test_without_dot_env_the_missing_file_is_named(workspace: Workspace) -> None:
    (workspace.folder / ".env").unlink()
    assert f"{workspace.folder}/.env not found" in compose(workspace.folder, STACK).stderr


@pytest.mark.parametrize("project", PROJECTS)
def test_an_image_is_made_from_the_lock_and_does_not_run_as_root(project: str) -> None:
    text = dockerfile(project)
    assert "--require-hashes --requirement requirements.txt" in text
    user = text.rpartition("\nUSER ")[2].split()[0]
    assert user.isdigit()
    assert user != "0"
    locked = (ROOT / "requirements-uv.txt").read_text().partition("uv==")[2].split()[0]
    assert f"ghcr.io/astral-sh/uv:{locked} " in text


@pytest.mark.parametrize("project", PROJECTS)
def test_an_image_runs_its_program_and_asks_it_for_its_health(project: str) -> None:
    text = dockerfile(project)
    scripts = tomllib.loads((ROOT / project / "pyproject.toml").read_text())["project"]["scripts"]
    (command,) = json.loads(text.rpartition("\nCMD ")[2])
    assert command == project
    assert command in scripts
    ports = text.partition("\nEXPOSE ")[2].splitlines()[0].split()
    asked = re.search(r"HTTPConnection\('127.0.0.1', (\d+)", text)
    assert asked
    assert asked[1] in ports
    state = re.search(r"(?:SIDECAR_STATE|WEBAPP_OUTBOX)=(/var/lib/[\w-]+)/", text)
    assert state
    assert re.search(rf"install --directory --owner=\w+ {state[1]}\n", text)
    venv = re.search(r"VIRTUAL_ENV=(\S+)", text)
    assert venv
    assert f'PATH="{venv[1]}/bin:$PATH"' in text
    assert " HOST=0.0.0.0 " in text


@pytest.mark.parametrize("project", PROJECTS)
def test_an_image_gets_every_file_that_it_copies(project: str) -> None:
    copied = {
        name
        for line in dockerfile(project).splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }
    allowed = {line[1:] for line in (ROOT / project / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    assert copied == allowed
    assert all((ROOT / project / name).exists() for name in copied)


def dockerfile(project: str) -> str:
    return (ROOT / project / "Dockerfile").read_text()
