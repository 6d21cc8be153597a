"""A pod of a rendered StatefulSet as processes, started and stopped in the order that Kubernetes uses."""

import os
import re
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from harness.ports import free_port
from harness.program import Program
from harness.waiting import eventually, get

# The programs that the images run by default.
PROGRAMS = {"trading-telemetry/metrics-sidecar": "metrics-sidecar", "trading-telemetry/trading-app": "trading-app"}


class Container(Program):
    """One container: a process with its environment, its volumes, a read-only root and no capabilities."""

    def __init__(self, spec: dict[str, Any], pod: "Pod") -> None:
        self.name: str = spec["name"]
        self._spec = spec
        self._pod = pod
        program = spec.get("command", [PROGRAMS[spec["image"].partition(":")[0]]])
        super().__init__(pod.folder / f"{self.name}.log", [*self._restrictions(), *program])
        self.folder = Path("/")
        self.environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.environ |= {entry["name"]: pod.translate(entry["value"]) for entry in spec["env"]}

    def _restrictions(self) -> list[str]:
        """The restrictions of the security context that root can apply to a process."""
        if os.geteuid():
            return []
        context = self._spec["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"]["drop"] == ["ALL"]
        volumes = [self._pod.volumes[mount["mountPath"]] for mount in self._spec["volumeMounts"]]
        binds = "".join(f"mount --bind {volume} {volume} && " for volume in volumes)
        drop = "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs"
        return ["unshare", "--mount", "sh", "-c", f'{binds}mount -o remount,bind,ro / && exec {drop} "$@"', "sh"]

    def answers(self, probe: str) -> bool:
        asked = self._spec[probe]
        kind = "httpGet" if "httpGet" in asked else "tcpSocket"
        url = f"http://127.0.0.1:{self._pod.port(asked[kind]['port'])}"
        return bool(get(url + asked[kind].get("path", "/openapi.json")))


class Pod:
    """The pod of ``spec``, with its volumes below ``folder`` and its own ports."""

    def __init__(self, spec: dict[str, Any], folder: Path) -> None:
        self.folder = folder
        self._spec = spec
        containers = [*spec["initContainers"], *spec["containers"]]
        self._ports = {"5555": free_port()}
        self._names: dict[str, str] = {}
        for container in containers:
            for port in container["ports"]:
                self._ports[str(port["containerPort"])] = free_port()
                self._names[port["name"]] = str(port["containerPort"])
        self.volumes = {
            mount["mountPath"]: str(folder / mount["name"])
            for container in containers
            for mount in container["volumeMounts"]
        }
        for volume in self.volumes.values():
            Path(volume).mkdir(exist_ok=True)
        self.sidecars = [Container(container, self) for container in spec["initContainers"]]
        self.applications = [Container(container, self) for container in spec["containers"]]

    def port(self, name: str) -> int:
        """The port of this machine for a named port of the pod."""
        return self._ports[self._names[name]]

    def translate(self, value: str) -> str:
        """A value of the pod's environment, translated to the ports and folders of this machine."""
        for path, folder in self.volumes.items():
            if value == path or value.startswith(f"{path}/"):
                return folder + value.removeprefix(path)
        return re.sub(r"\b(\d{4})$", lambda found: str(self._ports.get(found[1], found[1])), value)

    def start(self) -> None:
        """Start each sidecar and wait for its startup probe, then start the applications."""
        for sidecar in self.sidecars:
            sidecar.start()
            assert eventually(partial(sidecar.answers, "startupProbe"), timeout=60), sidecar.output
        for application in self.applications:
            application.start()
        for application in self.applications:
            assert eventually(partial(application.answers, "readinessProbe"), timeout=60), application.output

    def terminate_applications(self) -> None:
        for application in self.applications:
            application.send(signal.SIGTERM)

    def wait_for_applications(self) -> None:
        for application in self.applications:
            application.wait(self._spec["terminationGracePeriodSeconds"])

    def stop_sidecars(self) -> None:
        """Stop the sidecars after all applications, the last sidecar first."""
        assert not any(application.runs for application in self.applications)
        for sidecar in reversed(self.sidecars):
            sidecar.send(signal.SIGTERM)
            assert sidecar.wait(self._spec["terminationGracePeriodSeconds"]) in {0, -signal.SIGTERM}, sidecar.output

    def stop(self) -> None:
        self.terminate_applications()
        self.wait_for_applications()
        self.stop_sidecars()

    def kill(self) -> None:
        for container in (*self.applications, *self.sidecars):
            container.end()
