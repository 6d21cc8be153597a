"""The two ready-made environments: the dev container and the Nix shell.

Neither can be built where tests run. What they say is checked against the repository, and what they run is run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stack import ROOT, Workspace, tool

CONTAINER = ROOT / ".devcontainer"
SYSTEMS = ["aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"]

# Has what flake.nix takes of nixpkgs, and nothing else. Its Python is a real one.
NIXPKGS = """
{
  outputs = _: rec {
    lib = {
      genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
      optionalAttrs = condition: attributes: if condition then attributes else { };
      makeLibraryPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/lib") packages);
    };
    legacyPackages = lib.genAttrs [ SYSTEMS ] (system:
      let
        isLinux = builtins.match ".*-linux" system != null;
        package = name: derivation { inherit name system; builder = "none"; };
      in {
        stdenv.hostPlatform = { inherit isLinux; };
        stdenv.cc.cc.lib = package "gcc-lib";
        mkShellNoCC = shell: package "shell" // shell;
        writeShellScriptBin = name: text: package name // { inherit text; };
        python312 = package "python3" // { outPath = "PYTHON"; };
        prometheus = package "prometheus" // { cli = package "prometheus-cli"; };
        chromium = if isLinux then package "chromium" else throw "chromium is not for ${system}";
        playwright-driver.browsers-chromium = package "playwright-browsers";
      } // lib.genAttrs [ "uv" "honcho" "zlib" "nodejs" "nixfmt-tree" ] package);
  };
}
""".replace("SYSTEMS", " ".join(f'"{system}"' for system in SYSTEMS)).replace("PYTHON", sys.base_prefix)


@pytest.fixture(scope="module")
def devcontainer() -> dict[str, Any]:
    """Without comments, so that whatever reads JSON reads it."""
    config: dict[str, Any] = json.loads((CONTAINER / "devcontainer.json").read_text())
    return config


def test_the_dev_container_forwards_every_port_by_name(devcontainer: dict[str, Any]) -> None:
    programs = re.findall(r"^\w+_PORT=(\d+)", (ROOT / ".env.example").read_text(), re.MULTILINE)
    containers = re.findall(r'- "127.0.0.1:(\d+):\d+"', (ROOT / "infra/docker-compose.yml").read_text())
    assert {str(port) for port in devcontainer["forwardPorts"]} == {*programs, *containers}
    labels = [devcontainer["portsAttributes"][str(port)]["label"] for port in devcontainer["forwardPorts"]]
    assert len(set(labels)) == len(devcontainer["portsAttributes"]) == len(labels)


def test_the_dev_container_leaves_honcho_start_to_the_person(devcontainer: dict[str, Any]) -> None:
    assert devcontainer["postCreateCommand"] == "bin/setup --test"
    assert devcontainer["remoteEnv"]["PATH"].startswith("${containerWorkspaceFolder}/.venv/bin:")


def test_what_the_dev_container_names_is_there(devcontainer: dict[str, Any]) -> None:
    build = devcontainer["build"]
    copied = re.findall(r"^COPY (\S+) ", (CONTAINER / build["dockerfile"]).read_text(), re.MULTILINE)
    named = [CONTAINER / build["context"] / source for source in copied]
    commands = f"{devcontainer['postCreateCommand']} {devcontainer['postStartCommand']}"
    named += [ROOT / path for path in re.findall(r"(?:bin|infra)/\S+", commands)]
    assert [path for path in named if not path.exists()] == []


@pytest.mark.parametrize("refusals", [0, 3])
def test_the_stack_starts_when_docker_answers(devcontainer: dict[str, Any], refusals: int, tmp_path: Path) -> None:
    """Docker comes up in the background, after the container."""
    script(tmp_path / "docker", f'echo "$*" >> asked\n[ "$(wc -l < asked)" -gt {refusals} ]')
    script(tmp_path / "sleep", "")
    subprocess.run(
        ["sh", "-c", devcontainer["postStartCommand"]],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
    )
    up = "compose -f infra/docker-compose.yml up -d --wait"
    assert (tmp_path / "asked").read_text().splitlines() == ["info"] * (refusals + 1) + [up]


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_every_environment_has_the_same_python() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    assert f":3-{version}-" in (CONTAINER / "Dockerfile").read_text()
    pythons = re.findall(r"pkgs\.(python\d+)", (ROOT / "flake.nix").read_text())
    assert set(pythons) == {f"python{version.replace('.', '')}"}


def test_the_flake_lock_is_as_nix_writes_it() -> None:
    text = (ROOT / "flake.lock").read_text()
    lock = json.loads(text)
    assert text == json.dumps(lock, indent=2, sort_keys=True) + "\n"
    assert lock["version"] == 7
    assert set(lock["nodes"]) == {"root", "nixpkgs"}


def test_the_flake_lock_locks_what_the_flake_asks_for() -> None:
    asked = re.search(r'nixpkgs\.url = "github:(\w+)/(\w+)/([\w.-]+)"', (ROOT / "flake.nix").read_text())
    node = json.loads((ROOT / "flake.lock").read_text())["nodes"]["nixpkgs"]
    assert asked
    assert (node["original"]["owner"], node["original"]["repo"], node["original"]["ref"]) == asked.groups()
    assert (node["locked"]["owner"], node["locked"]["repo"]) == asked.groups()[:2]


def test_direnv_watches_files_that_are_there() -> None:
    watched = re.findall(r"^watch_file (.*)", (ROOT / ".envrc").read_text(), re.MULTILINE)
    assert watched
    assert [pattern for line in watched for pattern in line.split() if not any(ROOT.glob(pattern))] == []


class Nix:
    """Nix with a store and a home of its own, and the flake in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Not even CI needs it: nothing of the programs depends on Nix.
        program = shutil.which("nix")
        if not program:
            pytest.skip("nix is not installed: apt-get install nix-bin")
        self._nix = [program, "--extra-experimental-features", "nix-command flakes", "--store", str(folder / "store")]
        (folder / "flake").mkdir()
        for name in "flake.nix", "flake.lock":
            shutil.copy2(ROOT / name, folder / "flake" / name)
        (folder / "nixpkgs").mkdir()
        (folder / "nixpkgs/flake.nix").write_text(NIXPKGS)

    def __call__(self, *arguments: str, fragment: str = "", stub: bool = True) -> str:
        """The answer, with the stub in place of the nixpkgs that would have to be fetched."""
        override = ["--override-input", "nixpkgs", f"path:{self._folder}/nixpkgs"] if stub else []
        ran = subprocess.run(
            [*self._nix, *arguments, f"path:{self._folder}/flake{fragment}", "--offline", *override],
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def shells(self) -> dict[str, Any]:
        wanted = "_: systems: { inherit (systems.default) packages env shellHook; }"
        shells: dict[str, Any] = json.loads(
            self("eval", "--json", "--apply", f"builtins.mapAttrs ({wanted})", fragment="#devShells")
        )
        return shells


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    return Nix(tmp_path_factory.mktemp("nix"))


def test_nix_takes_the_flake_and_its_lock(nix: Nix) -> None:
    """Of a lock that did not fit, Nix would have to fetch anew."""
    nix("flake", "check", "--no-build")
    locks = json.loads(nix("flake", "metadata", "--json", "--no-update-lock-file", stub=False))["locks"]
    assert locks == json.loads((ROOT / "flake.lock").read_text())


def test_the_nix_shell_has_the_tools_on_every_system(nix: Nix) -> None:
    shells = nix.shells()
    assert sorted(shells) == SYSTEMS
    for system, shell in shells.items():
        names = {re.sub(r"^/nix/store/\w{32}-", "", package) for package in shell["packages"]}
        assert names == {sys.base_prefix, "uv", "honcho", "prometheus", "prometheus-cli", "chromium"}, system
        assert ("LD_LIBRARY_PATH" in shell["env"]) == system.endswith("linux")


def enter(shell: dict[str, Any], folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """What ``nix develop -c`` does, with this machine's tools."""
    uv = Path(tool("uv", "bin/setup installs it into .tools/uv")).parent
    active = str(Path(sys.executable).parent)
    path = [entry for entry in os.environ["PATH"].split(":") if entry != active]
    environ = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    return subprocess.run(
        ["bash", "-c", f"{shell['shellHook']}\n{command}"],
        cwd=folder,
        env={
            **environ,
            "PATH": ":".join([*path, str(uv)]),
            "PYTHONPATH": "/nowhere",
            "UV_PYTHON_PREFERENCE": shell["env"]["UV_PYTHON_PREFERENCE"],
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_in_the_nix_shell_honcho_start_has_its_programs_at_once(nix: Nix, workspace: Workspace) -> None:
    venv = workspace.folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    # Made outside the Nix shell, and good enough for bin/setup.
    (venv / "bin/activate").write_text(f"VIRTUAL_ENV={venv}\n")
    (venv / "pyvenv.cfg").write_text("home = /nowhere/bin\n")
    script(venv / "bin/python", "")
    found = "honcho check && type -p honcho metrics-sidecar trading-app trading-api; echo ${PYTHONPATH-unset}"
    entered = enter(nix.shells()["x86_64-linux"], workspace.folder, found)
    programs = ["honcho", "metrics-sidecar", "trading-app", "trading-api"]
    assert entered.stdout.split() == [*(str(venv / "bin" / name) for name in programs), "unset"], entered.stderr
    assert f"home = {sys.base_prefix}/bin" in (venv / "pyvenv.cfg").read_text()


def test_a_failed_setup_leaves_a_nix_shell_and_a_clear_line(nix: Nix, workspace: Workspace) -> None:
    script(workspace.folder / "bin/setup", "exit 1")
    entered = enter(nix.shells()["x86_64-linux"], workspace.folder, "echo here")
    assert entered.stdout == "here\n"
    assert entered.stderr.count("\n") == 1
    assert "run bin/setup" in entered.stderr
