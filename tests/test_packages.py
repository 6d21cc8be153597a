"""Each wheel installs into an empty environment, and runs there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness.ports import free_port
from harness.program import Program
from harness.tools import ROOT, tool
from harness.waiting import eventually, get

# The packages that importing the publisher adds to those that its two dependencies import.
IMPORTED = """
import sys, msgspec, zmq
before = {name.partition(".")[0] for name in sys.modules}
import trading_app
added = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
print(*sorted(added))
"""


# Modules that take long to import and that only the programs, an outbox, CURVE or the first publisher need.
SLOW = {"asyncio", "email", "http.client", "pathlib", "sqlite3", "ssl", "urllib.parse", "zmq.auth"}


def uv(*arguments: str | Path, **environ: str) -> None:
    program = tool("uv", "bin/setup installs it into .tools/uv")
    ran = subprocess.run(
        [program, *arguments], env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for project in "metrics-sidecar", "trading-app":
        uv("build", "--quiet", "--out-dir", folder, ROOT / project)
    return {wheel.name.partition("-")[0].replace("_", "-"): wheel for wheel in folder.glob("*.whl")}


def install(folder: Path, wheel: Path, extra: str = "") -> Path:
    """Make an environment with only the wheel and its dependencies, and return its ``bin``."""
    uv("venv", "--quiet", "--python", sys.executable, folder)
    wanted = f"{wheel.name.split('-')[0]}{extra} @ {wheel.as_uri()}"
    locked = ROOT / "locks/dev.txt"
    uv("pip", "install", "--quiet", "--constraint", locked, wanted, VIRTUAL_ENV=str(folder))
    return folder / "bin"


@pytest.mark.parametrize(
    "project, extra, command, path",
    [
        ("metrics-sidecar", "", "metrics-sidecar", "health"),
        ("trading-app", "[ui]", "trading-app", "_stcore/health"),
        ("trading-app", "[api]", "trading-api", "docs"),
    ],
)
def test_a_program_runs_from_its_wheel(  # noqa: PLR0913, PLR0917 - one parameter a column
    wheels: dict[str, Path], project: str, extra: str, command: str, path: str, tmp_path: Path
) -> None:
    programs = install(tmp_path / "venv", wheels[project], extra)
    port, environ = free_port(), {"SIDECAR_ZMQ_BIND": f"tcp://127.0.0.1:{free_port()}"}
    program = Program(tmp_path / "log", [programs / command])
    program.folder = tmp_path
    program.environ = {"PATH": os.environ["PATH"], "PORT": str(port), **environ}
    with program:
        assert eventually(lambda: get(f"http://127.0.0.1:{port}/{path}")), program.output


def test_the_feed_runs_from_its_wheel(wheels: dict[str, Path], tmp_path: Path) -> None:
    programs = install(tmp_path / "venv", wheels["trading-app"], "[feed]")
    ran = subprocess.run([programs / "trading-feed", "--help"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("Usage: trading-feed")


def test_the_library_without_extras_imports_only_its_two_dependencies(wheels: dict[str, Path], tmp_path: Path) -> None:
    programs = install(tmp_path / "venv", wheels["trading-app"])
    ran = subprocess.run([programs / "python", "-c", IMPORTED], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.split()) == (0, ["trading_app"]), ran.stderr


def test_importing_the_library_imports_no_slow_module() -> None:
    code = "import sys, trading_app; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(ran.stdout.split())
    assert "trading_app.publisher" in imported
    assert not imported & SLOW
