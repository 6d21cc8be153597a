"""Both HTTP interfaces conform to their OpenAPI documents, whatever the request."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.waiting import eventually
from harness.workspace import Honcho, Workspace


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    with Honcho(workspace, "sidecar", "api") as running:
        assert eventually(workspace.sidecar_is_up), running.output
        assert eventually(workspace.api_is_up), running.output
        yield workspace
    assert "Traceback" not in running.output


@pytest.mark.long
@pytest.mark.parametrize("program", ["sidecar", "api"])
def test_a_program_conforms_to_its_openapi_document(stack: Workspace, program: str, tmp_path: Path) -> None:
    port = {"sidecar": stack.sidecar_port, "api": stack.api_port}[program]
    bounds = ["--max-time=20", "--max-examples=50", "--generation-deterministic"]
    found = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"http://127.0.0.1:{port}/openapi.json",
            "--no-color",
            *bounds,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert " passed" in found.stdout
