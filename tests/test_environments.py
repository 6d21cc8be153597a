"""The two ready-made environments: the dev container and the Nix flake.

Tests have access to neither images nor nixpkgs. They run the commands of the dev container on this machine, in its
mounts. They evaluate and build the flake with a substitute for nixpkgs that provides the tools of this machine.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.tools import ROOT, tool
from harness.workspace import Workspace
from honcho.environ import parse

CONTAINER = ROOT / ".devcontainer"
SYSTEMS = ["aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"]

# Only the parts of nixpkgs that flake.nix uses. A package contains this machine's program or library of its name.
NIXPKGS = """
{
  outputs = _: rec {
    lib = {
      genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
      optionals = condition: list: if condition then list else [ ];
      optionalAttrs = condition: attributes: if condition then attributes else { };
      makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
    };
    legacyPackages = lib.genAttrs [ SYSTEMS ] (system:
      let
        isLinux = builtins.match ".*-linux" system != null;
        build = name: attributes: text: derivation (attributes // {
          inherit name system;
          builder = "/bin/sh";
          args = [ "-ec" "export PATH=$path:PATH\\n${text}" ];
          path = lib.makeBinPath (attributes.packages or [ ]);
        });
        package = name: build name { } ''
          mkdir -p $out/bin
          printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v ${name})" >$out/bin/${name}
          chmod +x $out/bin/${name}
        '';
        library = name: file: build name { } "mkdir -p $out/lib; cp $(cc -print-file-name=${file}) $out/lib/";
      in {
        stdenv.hostPlatform = { inherit isLinux; };
        stdenv.cc.cc.lib = library "gcc-lib" "libstdc++.so.6";
        zlib = library "zlib" "libz.so.1";
        mkShellNoCC = shell: package "shell" // shell;
        writeShellScriptBin = name: _: package name;
        writeShellScript = name: text:
          build name { inherit text; } "printf '#!/bin/sh\\n%s' \\"$text\\" >$out; chmod +x $out";
        runCommand = name: attributes: text: build name { packages = attributes.nativeBuildInputs; } text;
        python312 = package "python3" // { outPath = "PYTHON"; withPackages = _: package "python3"; };
        prometheus = package "prometheus" // { cli = package "promtool"; };
        chromium = if isLinux then package "chromium" else throw "chromium is not for ${system}";
        playwright-driver.browsers-chromium = package "playwright-browsers";
      } // lib.genAttrs [ "uv" "honcho" "nodejs" "shellcheck" "nixfmt-tree" ] package);
  };
}
"""


@pytest.fixture(scope="module")
def devcontainer() -> dict[str, Any]:
    """The configuration. It is plain JSON, without comments, so that every JSON parser can read it."""
    config: dict[str, Any] = json.loads((CONTAINER / "devcontainer.json").read_text())
    return config


def test_the_dev_container_forwards_the_port_of_every_program(devcontainer: dict[str, Any]) -> None:
    settings = parse((ROOT / ".env.example").read_text())
    ports = {int(port) for key, port in settings.items() if key.endswith("_PORT")} | {9090, 3000}
    assert set(devcontainer["forwardPorts"]) == ports
    labels = {devcontainer["portsAttributes"][str(port)]["label"] for port in ports}
    assert len(labels) == len(ports)


@pytest.mark.long
def test_the_dev_container_and_the_host_share_neither_packages_nor_state(
    devcontainer: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    """The create command runs with the container's volumes, on the host's folder at another path."""
    if os.geteuid():
        pytest.skip("only root can mount")
    host = workspace.folder
    for name in (".venv", ".data"):
        (host / name).mkdir()
        (host / name / "host").touch()
    inside = tmp_path / "workspaces"
    inside.mkdir()
    script(tmp_path / "sudo", 'exec "$@"')
    uv = Path(tool("uv", "bin/setup installs it into .tools/uv")).parent
    mounts = " && ".join(
        f"mount -t tmpfs tmpfs {mount['target'].replace('${containerWorkspaceFolder}', '.')}"
        for mount in devcontainer["mounts"]
        if mount["type"] == "volume"
    )
    create = devcontainer["postCreateCommand"]
    made = subprocess.run(
        [
            *("unshare", "--mount", "bash", "-ec"),
            f"mount --bind {host} {inside}; cd {inside}; {mounts}; {create}; ls .venv/bin .data",
        ],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}:{uv}", **devcontainer["containerEnv"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert {"metrics-sidecar", "trading-app", "honcho", "pytest"} <= set(made.stdout.split())
    assert "host" not in made.stdout.split()
    for name in (".venv", ".data"):
        assert [path.name for path in (host / name).iterdir()] == ["host"]


UP = "compose up --detach --wait"


@pytest.mark.parametrize(
    "docker, asked, said",
    [
        ("[ $(wc -l <asked) -gt 2 ]", ["info", "info", "info", UP], ""),
        ('[ "$*" = info ]', ["info", UP], "bin/dev tries again"),
        ("false", ["info"] * 61, "bin/dev starts the loop"),
    ],
    ids=["docker answers after a while", "an image cannot be pulled", "docker never answers"],
)
def test_the_dev_container_starts_even_when_docker_fails(
    devcontainer: dict[str, Any], tmp_path: Path, docker: str, asked: list[str], said: str
) -> None:
    script(tmp_path / "docker", f'echo "$*" >>asked\n{docker}')
    script(tmp_path / "sleep", "")
    started = subprocess.run(
        ["sh", "-c", str(ROOT / devcontainer["postStartCommand"])],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "asked").read_text().splitlines() == asked
    assert said in started.stdout
    assert started.stdout.count("\n") == bool(said)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


class Nix:
    """Nix with its own store and home, and the flake in a copy of the sources."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Nix is optional: no program depends on it.
        program = tool("nix", "apt-get install nix-bin")
        options = ["--offline", "--option", "sandbox", "false", "--option", "build-users-group", ""]
        self._nix = [program, "--extra-experimental-features", "nix-command flakes", *options]
        (folder / "flake").mkdir()
        self.workspace = Workspace(folder / "flake")
        (folder / "nixpkgs").mkdir()
        uv = Path(tool("uv", "bin/setup installs it into .tools/uv")).parent
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{uv}"
        text = NIXPKGS.replace("SYSTEMS", " ".join(f'"{system}"' for system in SYSTEMS))
        text = text.replace("PYTHON", sys.base_prefix).replace("$path:PATH", f"$path:{path}")
        (folder / "nixpkgs/flake.nix").write_text(text)
        (folder / "home").mkdir()

    def __call__(self, *arguments: str, fragment: str = "", stub: bool = True) -> str:
        """Run a command with the substitute for nixpkgs, and return its output."""
        ran = self.run(*arguments, fragment=fragment, stub=stub)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def run(
        self, *arguments: str, fragment: str = "", stub: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        override = ["--override-input", "nixpkgs", f"path:{self._folder}/nixpkgs"] if stub else []
        return subprocess.run(
            [*self._nix, *arguments, f"path:{self._folder}/flake{fragment}", *override],
            cwd=cwd or self.workspace.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self._folder / "home"),
                "NIX_STORE_DIR": str(self._folder / "store"),
                "NIX_STATE_DIR": str(self._folder / "state"),
                "NIX_LOG_DIR": str(self._folder / "log"),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def shells(self) -> dict[str, Any]:
        wanted = "_: systems: { inherit (systems.default) packages env shellHook; }"
        shells: dict[str, Any] = json.loads(
            self("eval", "--json", "--apply", f"builtins.mapAttrs ({wanted})", fragment="#devShells")
        )
        return shells


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    return Nix(tmp_path_factory.mktemp("nix"))


@pytest.mark.long
def test_nix_flake_check_passes_without_a_network(nix: Nix) -> None:
    tool("promtool", "apt-get install prometheus")
    tool("shellcheck", "apt-get install shellcheck")
    nix("flake", "check")


@pytest.mark.long
def test_nix_accepts_the_lock_unchanged(nix: Nix) -> None:
    """If the lock did not match the flake, Nix would have to fetch."""
    locks = json.loads(nix("flake", "metadata", "--json", "--no-update-lock-file", stub=False))["locks"]
    assert locks == json.loads((ROOT / "flake.lock").read_text())


@pytest.mark.long
def test_the_nix_shell_has_the_tools_on_every_system(nix: Nix) -> None:
    shells = nix.shells()
    assert sorted(shells) == SYSTEMS
    for system, shell in shells.items():
        names = {re.sub(r"^.*/store/\w{32}-", "", package) for package in shell["packages"]}
        assert names == {sys.base_prefix, "uv", "honcho", "prometheus", "promtool", "nodejs", "chromium"}, system
        assert "LD_LIBRARY_PATH" not in shell["env"], system


def enter(shell: dict[str, Any], folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as ``nix develop -c`` does, with this machine's tools."""
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


@pytest.mark.long
def test_the_nix_shell_puts_the_programs_of_honcho_start_on_the_path(nix: Nix, workspace: Workspace) -> None:
    venv = workspace.folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    # An environment made outside the Nix shell that bin/setup accepts.
    (venv / "bin/activate").write_text(f"VIRTUAL_ENV={venv}\n")
    (venv / "pyvenv.cfg").write_text("home = /nowhere/bin\n")
    script(venv / "bin/python", "")
    found = "honcho check && type -p honcho metrics-sidecar trading-app trading-api; echo ${PYTHONPATH-unset}"
    entered = enter(nix.shells()["x86_64-linux"], workspace.folder, found)
    programs = ["honcho", "metrics-sidecar", "trading-app", "trading-api"]
    assert entered.stdout.split() == [*(str(venv / "bin" / name) for name in programs), "unset"], entered.stderr
    assert f"home = {sys.base_prefix}/bin" in (venv / "pyvenv.cfg").read_text()


@pytest.mark.long
def test_a_failed_setup_prints_a_clear_line_and_keeps_the_nix_shell(nix: Nix, workspace: Workspace) -> None:
    script(workspace.folder / "bin/setup", "exit 1")
    entered = enter(nix.shells()["x86_64-linux"], workspace.folder, "echo here")
    assert entered.stdout == "here\n"
    assert "run bin/setup" in entered.stderr.splitlines()[-1]


LIBRARIES = """
import re, subprocess, zmq
mapped = open("/proc/self/maps").read()
print(*sorted(set(re.findall(r"/\\S*lib(?:stdc\\+\\+|z)\\.so\\S*", mapped))), sep="\\n")
print(subprocess.run("echo ${LD_LIBRARY_PATH-unset}", shell=True, capture_output=True, text=True).stdout.strip())
"""


@pytest.mark.long
def test_nix_run_starts_the_loop_and_gives_libraries_to_python_only(nix: Nix) -> None:
    """On NixOS the wheels load only with Nix's libstdc++; LD_LIBRARY_PATH would give it to every program."""
    tool("cc", "apt-get install gcc")
    folder = nix.workspace.folder
    script(folder / "bin/dev", 'echo "bin/dev $*"')
    assert nix("run").splitlines()[-1] == "bin/dev "
    python = folder / ".venv/bin/python"
    setup = subprocess.run(["bin/setup"], cwd=folder, env={**os.environ, "PATH": path_with_uv()}, check=False)
    assert setup.returncode == 0
    loaded = subprocess.run([python, "-c", LIBRARIES], capture_output=True, text=True, check=True).stdout.split()
    assert loaded.pop() == "unset"
    assert all("/store/" in library for library in loaded), loaded
    assert any("libstdc++" in library for library in loaded), loaded


def path_with_uv() -> str:
    return f"{os.environ['PATH']}:{Path(tool('uv', 'bin/setup installs it into .tools/uv')).parent}"


@pytest.mark.long
def test_nix_run_outside_the_repository_says_what_to_do(nix: Nix, tmp_path: Path) -> None:
    ran = nix.run("run", cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].endswith("Clone it, and run nix run there.")
