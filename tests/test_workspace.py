"""The README's commands, in a folder where nothing has been set up."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.tools import ROOT, bare_environ, tool
from harness.waiting import eventually, get
from harness.workspace import Honcho, Workspace


def test_bin_dev_sets_up_starts_and_stops_everything(workspace: Workspace) -> None:
    dev = Honcho(workspace, command=["bin/dev"])
    dev.environ = bare_environ()
    with dev:
        assert eventually(lambda: workspace.page_is_up() and workspace.api_is_up(), timeout=120), dev.output
        for address in f":{workspace.ui_port}", f":{workspace.api_port}/docs", f":{workspace.sidecar_port}/metrics":
            assert f"http://localhost{address}" in dev.output
        dev.ctrl_c()
    assert not get(workspace.metrics)
    assert not workspace.page_is_up()
    assert (workspace.folder / ".data/sidecar.sqlite3").exists()


def test_bin_dev_prints_its_options_before_it_sets_anything_up(workspace: Workspace) -> None:
    for option, status in (("--help", 0), ("--no-stak", 1)):
        said = subprocess.run(
            ["bin/dev", option], cwd=workspace.folder, capture_output=True, text=True, check=False, timeout=60
        )
        assert said.returncode == status
        assert "--no-stack" in said.stdout
    assert not (workspace.folder / ".venv").exists()


@pytest.mark.parametrize("module", ["guard", "reloader", "server"])
def test_a_module_that_both_projects_have_is_identical(module: str) -> None:
    """Neither project imports the other."""
    sidecar, app = (
        (ROOT / project / "src" / package / f"{module}.py").read_text().replace(package, "package")
        for project, package in (("metrics-sidecar", "metrics_sidecar"), ("trading-app", "trading_app"))
    )
    assert sidecar == app


def test_bin_setup_keeps_existing_files_and_makes_missing_ones(workspace: Workspace) -> None:
    env, password = workspace.folder / ".env", workspace.folder / ".secrets/grafana-password"
    ours = env.read_text()
    setup(workspace.folder)
    assert env.read_text() == ours
    made = password.read_text()
    env.unlink()
    setup(workspace.folder)
    assert env.read_text() == (ROOT / ".env.example").read_text()
    assert password.read_text() == made


def setup(folder: Path) -> None:
    subprocess.run(["bin/setup"], cwd=folder, env=bare_environ(), check=True)


@pytest.mark.long
@pytest.mark.parametrize("project, module", [("metrics-sidecar", "histogram"), ("trading-app", "formatting")])
def test_a_project_needs_only_its_own_folder_and_lock(project: str, module: str, tmp_path: Path) -> None:
    """In an environment of its own, outside the workspace, all its tests import and one file of them passes."""
    uv = tool("uv", "bin/setup installs it into .tools/uv")
    folder = tmp_path / project
    shutil.copytree(ROOT / project, folder, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.egg-info"))
    commands = f"""
        {uv} venv --quiet --python {sys.executable} .venv
        {uv} pip install --quiet --require-hashes --requirement locks/dev.txt
        {uv} pip install --quiet --no-deps --editable .
        .venv/bin/pytest --quiet --collect-only
        .venv/bin/pytest --quiet tests/test_{module}.py
    """
    environ = {**bare_environ(), "VIRTUAL_ENV": str(folder / ".venv")}
    ran = subprocess.run(
        ["bash", "-ec", commands], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_locks_agree() -> None:
    """Every lock pins the same version of a package."""
    versions: dict[str, set[str]] = {}
    for lock in (*ROOT.glob("locks/*.txt"), *ROOT.glob("*/locks/*.txt")):
        for line in lock.read_text().splitlines():
            if line and line[0].isalpha():
                name, version = line.split(" ")[0].split("==")
                versions.setdefault(name, set()).add(version)
    assert {"pyzmq", "honcho", "streamlit", "uv"} <= versions.keys()
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
