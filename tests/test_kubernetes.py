"""The Kubernetes manifests: rendered, validated, and their pod run as processes. No cluster is needed."""

import base64
import copy
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import kubernetes_validate
import pytest
import yaml
from harness.pod import Pod
from harness.tools import ROOT, make_keys, tool
from harness.waiting import eventually, get
from harness.workspace import Workspace

from metrics_sidecar.curve import Keys
from trading_app.curve import load_keys

INFRA = ROOT / "infra"
OVERLAYS = ["base", "dev", "curve"]
OPERATOR = "monitoring.coreos.com/v1"

type Resources = list[dict[str, Any]]


def render(overlay: str) -> Resources:
    program = tool("kubectl", "bin/setup --test installs it on Linux")
    rendered = subprocess.run(
        [program, "kustomize", str(INFRA / "kubernetes" / overlay)], capture_output=True, text=True, check=False
    )
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stderr == ""
    return list(yaml.safe_load_all(rendered.stdout))


@pytest.fixture(scope="module")
def rendered() -> dict[str, Resources]:
    return {overlay: render(overlay) for overlay in OVERLAYS}


def only(resources: Resources, kind: str) -> dict[str, Any]:
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found


def containers(resources: Resources) -> Resources:
    spec = only(resources, "StatefulSet")["spec"]["template"]["spec"]
    return [*spec["initContainers"], *spec["containers"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_accepts_every_resource(rendered: dict[str, Resources], overlay: str) -> None:
    for resource in rendered[overlay]:
        if resource["apiVersion"] != OPERATOR:
            kubernetes_validate.validate(resource, "1.37", strict=True)


def test_kubernetes_refuses_a_mistake(rendered: dict[str, Resources]) -> None:
    mistaken = copy.deepcopy(only(rendered["base"], "StatefulSet"))
    mistaken["spec"]["template"]["spec"]["initContainers"][0]["restartPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(mistaken, "1.37", strict=True)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Resources], str]:
    """Validates resources of the Prometheus operator; returns the errors, or an empty string."""
    node, npm = tool("node", "apt-get install nodejs"), tool("npm", "apt-get install npm")
    folder = tmp_path_factory.mktemp("operator") / "kubernetes"
    shutil.copytree(ROOT / "tests/kubernetes", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)

    def validate(resources: Resources) -> str:
        asked = subprocess.run(
            [node, "validate.mjs"], cwd=folder, input=json.dumps(resources), capture_output=True, text=True, check=False
        )
        assert bool(asked.returncode) == bool(asked.stderr)
        return asked.stderr

    return validate


def test_the_operator_accepts_its_resources_and_refuses_a_mistake(
    rendered: dict[str, Resources], operator: Callable[[Resources], str]
) -> None:
    ours = [resource for resource in rendered["base"] if resource["apiVersion"] == OPERATOR]
    assert {resource["kind"] for resource in ours} == {"PodMonitor", "PrometheusRule"}
    assert operator(ours) == ""
    for kind, path, mistake in (
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval"), "soon"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "expr"), None),
    ):
        broken = copy.deepcopy(only(ours, kind))
        place: Any = broken
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = mistake
        assert kind in operator([broken])


def test_the_rules_equal_those_of_prometheus_in_compose(rendered: dict[str, Resources], workspace: Workspace) -> None:
    subprocess.run(["bin/prometheus-rule"], cwd=workspace.folder, check=True)
    generated = Path("infra/kubernetes/base/prometheus-rule.yaml")
    current = (ROOT / generated).read_text() == (workspace.folder / generated).read_text()
    assert current, "the rules have changed: run bin/prometheus-rule"
    files = sorted((INFRA / "prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert yaml.safe_load((ROOT / generated).read_text())["spec"]["groups"] == groups
    # Kustomize reformats folded expressions, with empty lines.
    assert canonical(only(rendered["base"], "PrometheusRule")["spec"]["groups"]) == canonical(groups)


def canonical(groups: Resources) -> list[str]:
    return json.dumps(groups, sort_keys=True).replace("\\n", " ").split()


def test_the_dashboards_equal_those_of_grafana_in_compose(rendered: dict[str, Resources]) -> None:
    maps = [resource for resource in rendered["base"] if resource["kind"] == "ConfigMap"]
    assert all(config["metadata"]["labels"]["grafana_dashboard"] == "1" for config in maps)
    shown = {name: text for config in maps for name, text in config["data"].items()}
    assert shown == {file.name: file.read_text() for file in (INFRA / "grafana/dashboards").glob("*.json")}


def test_prometheus_scrapes_both_jobs_under_their_names(rendered: dict[str, Resources]) -> None:
    ports = {
        port["name"]: port["containerPort"] for container in containers(rendered["base"]) for port in container["ports"]
    }
    scraped = {
        endpoint["relabelings"][0]["replacement"]: ports[endpoint["port"]]
        for endpoint in only(rendered["base"], "PodMonitor")["spec"]["podMetricsEndpoints"]
    }
    assert scraped == {"metrics-sidecar": 8001, "trading-app": 8000}


def test_only_prometheus_may_connect(rendered: dict[str, Resources]) -> None:
    prometheus = [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
        }
    ]
    for overlay in OVERLAYS:
        resources = rendered[overlay]
        policy = only(resources, "NetworkPolicy")["spec"]
        labels = only(resources, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert policy["policyTypes"] == ["Ingress"]
        allowed = [(rule["from"], [port["port"] for port in rule["ports"]]) for rule in policy["ingress"]]
        assert allowed[0] == (prometheus, ["sidecar", "api"])
        others = [({"podSelector": {"matchLabels": {"trading-telemetry/publisher": "true"}}}, ["trades", "sidecar"])]
        assert [(who, ports) for (who,), ports in allowed[1:]] == (others if overlay == "curve" else [])


@pytest.mark.parametrize("overlay", ["base", "dev"])
def test_trades_never_leave_the_pod(rendered: dict[str, Resources], overlay: str) -> None:
    for container in containers(rendered[overlay]):
        for entry in container["env"]:
            if entry["name"] in {"SIDECAR_ZMQ_BIND", "WEBAPP_ZMQ_ADDR", "WEBAPP_SIDECAR_URL"}:
                assert "//127.0.0.1:" in entry["value"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_restricted(rendered: dict[str, Resources], overlay: str) -> None:
    pod = only(rendered[overlay], "StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(rendered[overlay]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"] == "256Mi"


def test_the_documented_secrets_contain_the_keys_that_the_curve_pod_needs(
    rendered: dict[str, Resources], tmp_path: Path
) -> None:
    """The commands of docs/scaling.md make the secrets; their keys are mounted as Kubernetes does it."""
    make_keys(tmp_path, "api", "bot-1")
    commands = re.findall(r"^kubectl create secret .*", (ROOT / "docs/scaling.md").read_text(), re.MULTILINE)
    secrets = {}
    for command in commands:
        made = subprocess.run(
            [*command.split(), "--dry-run=client", "--output=json"], cwd=tmp_path, capture_output=True, check=True
        )
        secret = json.loads(made.stdout)
        secrets[secret["metadata"]["name"]] = secret["data"]
    volumes = {
        volume["name"]: volume
        for volume in only(rendered["curve"], "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    }
    server, client = tmp_path / "server", tmp_path / "client"
    for source in volumes["sidecar-curve"]["projected"]["sources"]:
        mount(secrets[source["secret"]["name"]], source["secret"].get("items"), server)
    mount(secrets[volumes["trading-api-curve"]["secret"]["secretName"]], None, client)
    keys = Keys(server)
    assert keys.allows(load_keys(client).public.decode())
    assert len(list((server / "clients").iterdir())) == 2


def mount(data: dict[str, str], items: list[dict[str, str]] | None, folder: Path) -> None:
    for item in items or [{"key": key, "path": key} for key in data]:
        path = folder / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data[item["key"]]))
        path.chmod(0o440)


@pytest.fixture(params=["base", "dev"])
def pod(request: pytest.FixtureRequest, rendered: dict[str, Resources], tmp_path: Path) -> Iterator[Pod]:
    running = Pod(only(rendered[request.param], "StatefulSet")["spec"]["template"]["spec"], tmp_path)
    yield running
    running.kill()


def counted(pod: Pod) -> float:
    lines = get(f"http://127.0.0.1:{pod.port('sidecar')}/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('trades_total{side="buy"'))


def buy(pod: Pod) -> None:
    url = f"http://127.0.0.1:{pod.port('api')}/trade/buy"
    with urlopen(Request(url, b'{"qty": 1}', {"Content-Type": "application/json"}), timeout=30):
        pass


def test_the_application_stops_first_and_the_trades_it_flushes_are_counted(pod: Pod) -> None:
    """The sidecar is frozen until the application is told to stop, and has counted every trade when it has stopped."""
    pod.start()
    (sidecar,) = pod.sidecars
    sidecar.send(signal.SIGSTOP)
    with ThreadPoolExecutor(4) as senders:
        list(senders.map(lambda _: buy(pod), range(200)))
    pod.terminate_applications()
    api = next(application for application in pod.applications if application.name == "trading-api")
    assert eventually(lambda: "Waiting for application shutdown" in api.output), api.output
    assert api.runs
    sidecar.send(signal.SIGCONT)
    pod.wait_for_applications()
    assert counted(pod) == 200
    pod.stop_sidecars()
    pod.start()
    assert counted(pod) == 200
    buy(pod)
    assert eventually(lambda: counted(pod) == 201)
    pod.stop()
