"""bin/dev after setup: it runs the programs, and as much of the stack as the machine supports."""

import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.program import is_gone
from harness.tools import ROOT, tool
from harness.waiting import eventually, get
from harness.workspace import Honcho, Workspace

type Start = Callable[..., Honcho]

# Substitutes that start at once, for tests that do not depend on the real programs.
QUICK = "\n".join(f"{name}: echo {name} is up; exec sleep 600" for name in ("sidecar", "ui", "api"))
COMMANDS = ["cat", "sh", "sleep", "tail", "touch"]
# A substitute for the Docker client: it records each call.
DOCKER = """
echo "$*" >> asked
case "$*" in
"compose ps --quiet") cat running ;;
"compose up"*) echo Pulling; until [ -e pulled ]; do sleep 0.05; done; exit "$(cat pulled)" ;;
esac
"""


@pytest.fixture
def dev(workspace: Workspace, honcho: Start) -> Start:
    """Starts the program that bin/dev runs after setup."""

    def start(*options: str, path: str = "") -> Honcho:
        return honcho(command=[sys.executable, str(workspace.folder / "bin/dev.py"), *options], path=path)

    return start


@pytest.fixture
def quick(workspace: Workspace, dev: Start) -> Start:
    """Starts the same program, with substitutes for the programs of the Procfile."""
    (workspace.folder / "Procfile").write_text(QUICK)
    return dev


def quick_programs_are_up(stack: Honcho) -> bool:
    return all(f"{name} is up" in stack.output for name in ("sidecar", "ui", "api"))


def tools(folder: Path, *programs: str, **scripts: str) -> str:
    """A PATH with the commands that shell scripts use, the named programs, and scripts of the given names."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    for name in *COMMANDS, *programs:
        program = shutil.which(name)
        assert program, name
        (folder / name).symlink_to(program)
    return str(folder)


def without_docker(folder: Path) -> str:
    tool("prometheus", "apt-get install prometheus")
    return tools(folder, "prometheus")


def all_are_up(workspace: Workspace) -> bool:
    return workspace.page_is_up() and workspace.api_is_up() and workspace.sidecar_is_up()


def targets(workspace: Workspace) -> list[dict[str, str]]:
    """The active targets of Prometheus; none while it does not answer."""
    answer = get(f"http://127.0.0.1:{workspace.prometheus_port}/api/v1/targets?state=active")
    found: list[dict[str, str]] = json.loads(answer)["data"]["activeTargets"] if answer else []
    return found


def nothing_is_left(workspace: Workspace, stack: Honcho) -> bool:
    ports = (workspace.sidecar_port, workspace.ui_port, workspace.api_port, workspace.prometheus_port)
    return eventually(lambda: all(map(is_gone, stack.groups)) and not any(map(listens, ports)))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_without_docker_a_prometheus_on_the_path_scrapes_the_programs(
    workspace: Workspace, dev: Start, tmp_path: Path
) -> None:
    stack = dev(path=without_docker(tmp_path / "tools"))
    assert eventually(lambda: all_are_up(workspace), timeout=90), stack.output
    assert eventually(lambda: {target["health"] for target in targets(workspace)} == {"up"}), targets(workspace)
    assert workspace.metrics in {target["scrapeUrl"].replace("localhost", "127.0.0.1") for target in targets(workspace)}
    rules = get(f"http://127.0.0.1:{workspace.prometheus_port}/api/v1/rules")
    assert "SidecarDown" in rules
    assert f"Prometheus at http://127.0.0.1:{workspace.prometheus_port}" in stack.output
    assert "URL:" not in stack.output, "Streamlit asks other machines for its public address"
    assert stack.ctrl_c() == 130
    assert nothing_is_left(workspace, stack), stack.output
    assert (workspace.folder / ".data/prometheus/wal").exists()
    shipped, ran = (
        [(path.name, path.read_bytes()) for path in sorted((root / "infra/prometheus").rglob("*")) if path.is_file()]
        for root in (ROOT, workspace.folder)
    )
    assert ran == shipped
    assert "Traceback" not in stack.output


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_end_everything(
    workspace: Workspace, quick: Start, tmp_path: Path, end: signal.Signals
) -> None:
    """A closed terminal sends SIGHUP."""
    stack = quick(path=without_docker(tmp_path / "tools"))
    assert eventually(lambda: quick_programs_are_up(stack) and listens(workspace.prometheus_port)), stack.output
    assert stack.stop(end) == 128 + signal.SIGTERM
    assert nothing_is_left(workspace, stack), stack.output


def test_ctrl_c_while_the_programs_start_ends_all_of_them(workspace: Workspace, dev: Start) -> None:
    programs = [f"program{number}: exec sleep 600" for number in range(30)]
    (workspace.folder / "Procfile").write_text("\n".join(["first: touch first; exec sleep 600", *programs]))
    stack = dev("--no-stack")
    assert eventually((workspace.folder / "first").exists), stack.output
    assert stack.ctrl_c() == 130
    assert len(stack.groups) == 31
    assert nothing_is_left(workspace, stack), stack.output
    assert "Traceback" not in stack.output


def test_no_stack_starts_neither_docker_nor_prometheus(workspace: Workspace, quick: Start, tmp_path: Path) -> None:
    stack = quick("--no-stack", path=tools(tmp_path / "tools", docker="touch asked"))
    assert eventually(lambda: quick_programs_are_up(stack)), stack.output
    assert len(stack.groups) == 3
    assert not (workspace.folder / "asked").exists()
    assert not listens(workspace.prometheus_port)
    stack.ctrl_c()
    assert nothing_is_left(workspace, stack)


@pytest.mark.parametrize(
    "scripts, command",
    [
        ({"docker": '[ "$*" = "compose version" ]'}, "docker compose up -d --wait"),
        ({"apt-get": ""}, "sudo apt-get install prometheus"),
        ({"brew": ""}, "brew install prometheus"),
    ],
)
def test_without_docker_and_prometheus_one_line_says_what_to_install(
    quick: Start, tmp_path: Path, scripts: dict[str, str], command: str
) -> None:
    stack = quick(path=tools(tmp_path / "tools", **scripts))
    assert eventually(lambda: "stack" in stack.output), stack.output
    (line,) = re.findall(r"^  stack .*", stack.output, re.MULTILINE)
    assert line.endswith(command)
    assert eventually(lambda: len(stack.groups) == 3), stack.output
    stack.ctrl_c()


def test_no_prometheus_starts_where_another_program_has_its_port(
    workspace: Workspace, quick: Start, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", workspace.prometheus_port)):
        stack = quick(path=without_docker(tmp_path / "tools"))
        assert eventually(lambda: len(stack.groups) == 3), stack.output
        assert f"Another program has port {workspace.prometheus_port}" in stack.output
        stack.ctrl_c()


class Docker:
    """A substitute for the Docker client, whose engine runs."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self._folder = workspace.folder
        self.running("")
        self.path = tools(folder, docker=DOCKER)

    def running(self, containers: str) -> None:
        (self._folder / "running").write_text(containers)

    def pulled(self, status: int) -> None:
        (self._folder / "pulled").write_text(str(status))

    @property
    def asked(self) -> list[str]:
        asked = self._folder / "asked"
        return asked.read_text().splitlines() if asked.exists() else []


@pytest.fixture
def docker(workspace: Workspace, tmp_path: Path) -> Docker:
    return Docker(workspace, tmp_path / "tools")


def test_with_docker_the_programs_do_not_wait_for_the_images(
    workspace: Workspace, quick: Start, docker: Docker
) -> None:
    stack = quick(path=docker.path)
    assert eventually(lambda: quick_programs_are_up(stack)), stack.output
    assert eventually(lambda: "Pulling" in stack.output), stack.output
    assert not listens(workspace.prometheus_port)
    docker.pulled(0)
    assert eventually(lambda: stack.output.count("Grafana at http://localhost:3000") == 2), stack.output
    assert "compose down" not in docker.asked
    stack.ctrl_c()
    assert docker.asked[-2:] == ["compose up --detach --wait", "compose down"]
    assert nothing_is_left(workspace, stack)


def test_ctrl_c_while_images_are_pulled_stops_the_containers(
    workspace: Workspace, quick: Start, docker: Docker
) -> None:
    stack = quick(path=docker.path)
    assert eventually(lambda: "Pulling" in stack.output), stack.output
    stack.ctrl_c()
    assert docker.asked[-1] == "compose down"
    assert nothing_is_left(workspace, stack)


def test_the_programs_keep_running_when_the_stack_does_not_start(quick: Start, docker: Docker) -> None:
    docker.pulled(1)
    stack = quick(path=docker.path)
    assert eventually(lambda: "did not start; the programs keep running" in stack.output), stack.output
    assert eventually(lambda: quick_programs_are_up(stack)), stack.output
    stack.ctrl_c()


def test_a_stack_that_was_already_running_keeps_running(quick: Start, docker: Docker) -> None:
    docker.running("3c1f\n")
    stack = quick(path=docker.path)
    assert eventually(lambda: len(stack.groups) == 3), stack.output
    stack.ctrl_c()
    assert "already running" in stack.output
    assert not {"compose up --detach --wait", "compose down"} & set(docker.asked)


def test_the_programs_do_not_also_start_in_containers(workspace: Workspace, quick: Start, docker: Docker) -> None:
    env = workspace.folder / ".env"
    programs = "infra/docker-compose.yml:infra/docker-compose.programs.yml"
    env.write_text(env.read_text().replace("infra/docker-compose.yml", programs))
    script = Path(docker.path) / "docker"
    script.write_text(script.read_text() + '\necho "$COMPOSE_FILE" >> files\n')
    docker.pulled(0)
    stack = quick(path=docker.path)
    assert eventually(lambda: len(stack.groups) == 4), stack.output
    stack.ctrl_c()
    files = (workspace.folder / "files").read_text().splitlines()
    assert set(files[2:]) == {"infra/docker-compose.yml"}


def test_the_last_lines_name_a_program_that_was_killed(workspace: Workspace, quick: Start) -> None:
    stack = quick("--no-stack")
    assert eventually(lambda: quick_programs_are_up(stack)), stack.output
    (api,) = re.findall(r"api\.1 started \(pid=(\d+)\)", stack.output)
    os.killpg(int(api), signal.SIGKILL)
    assert stack.wait() == 128 + signal.SIGKILL
    _, _, verdict = stack.output.rpartition("\n\n")
    assert verdict.startswith("api was killed by SIGKILL, so everything else was stopped. Its last lines:\n")
    assert nothing_is_left(workspace, stack)


def test_the_last_lines_say_why_a_program_cannot_start(workspace: Workspace, dev: Start) -> None:
    with socket.create_server(("127.0.0.1", workspace.api_port)):
        stack = dev("--no-stack")
        assert stack.wait() == 1
    _, _, verdict = stack.output.rpartition("\n\n")
    assert verdict.startswith("api ended with exit status 1")
    assert verdict.rstrip().splitlines()[-1].strip().startswith(f"trading-api: PORT={workspace.api_port}: another")
    assert nothing_is_left(workspace, stack)


def test_the_last_lines_say_how_to_run_without_a_prometheus_that_cannot_start(
    workspace: Workspace, quick: Start, tmp_path: Path
) -> None:
    configuration = workspace.folder / "infra/prometheus/prometheus.yml"
    configuration.write_text(f"{configuration.read_text()}\nmistake: 1\n")
    stack = quick(path=without_docker(tmp_path / "tools"))
    assert stack.wait() == 2
    _, _, verdict = stack.output.rpartition("\n\n")
    assert verdict.startswith("prometheus ended with exit status 2")
    assert "bin/dev --no-stack does without it" in verdict
    assert "mistake" in verdict
