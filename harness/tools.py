"""Tools that may be missing on a machine, and the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]
# `bin/setup --test` unpacks newer programs here than those that the system has installed.
UNPACKED = ROOT / ".tools/debian"


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


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text that is in the file once."""
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))
