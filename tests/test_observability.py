"""What Prometheus and Grafana are given, on a real Prometheus that scrapes a real side-car."""

import itertools
import json
import math
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
import zmq
from chaos import Sidecar
from stack import ROOT, Prometheus, eventually, free_port, get, tool

PROMETHEUS = ROOT / "infra/prometheus"
GRAFANA = ROOT / "infra/grafana"
RULES = [
    rule
    for path in sorted(PROMETHEUS.glob("rules/*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))}
PANELS = [
    pytest.param(panel, id=f"{uid}-{panel['title']}")
    for uid, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
]


def promtool(*arguments: str | Path, stdin: str = "") -> None:
    program = tool("promtool", "apt-get install prometheus")
    checked = subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


class Traffic:
    """Messages of every kind, a burst at a time."""

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.connect(address)
        self._numbers = itertools.count()

    def burst(self, age: float = 0.0) -> None:
        """Good trades, ``age`` seconds old, a duplicate, one before its turn, lost ones, and rubbish."""
        session = f"mixed-{next(self._numbers)}"
        for seq in (1, 1, 3):
            self._trade("buy", age, session=session, seq=seq)
        self._send({"type": "gap_fill", "session": session, "new_seq": 5})
        self._trade("sell", age)
        self._send({"type": "order"})
        self._socket.send(b"rubbish")

    def _trade(self, side: str, age: float, **tracked: str | int) -> None:
        self._send({"type": "trade", "side": side, "qty": 1.5, "ts": time.time() - age, **tracked})

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.send_string(json.dumps(message))

    def close(self) -> None:
        self._socket.close(linger=0)


class Watched:
    """A side-car, its traffic, and the Prometheus that scrapes it."""

    def __init__(self, folder: Path, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.traffic = Traffic(self.sidecar.address)
        self.prometheus = Prometheus(folder / "prometheus", self.sidecar.url.removeprefix("http://"), free_port())

    def restart(self) -> None:
        self.sidecar.end()
        self.sidecar.start()
        assert eventually(self.sidecar.is_up)

    def has_data(self, expression: str) -> bool:
        """Whether the expression, as Grafana would send it, answers with numbers."""
        answer = self.prometheus.query(expression.replace("$__rate_interval", "5s"))
        return any(not math.isnan(float(series["value"][1])) for series in answer)

    def is_due(self, alert: str) -> bool:
        """Whether the alert's condition holds, for however short a time yet."""
        return bool(self.prometheus.query(f'ALERTS{{alertname="{alert}"}}'))

    def end(self) -> None:
        self.traffic.close()
        self.prometheus.end()


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    running = Sidecar(tmp_path)
    running.start()
    assert eventually(running.is_up)
    yield running
    running.close()


@pytest.fixture
def watched(tmp_path: Path, sidecar: Sidecar) -> Iterator[Watched]:
    running = Watched(tmp_path, sidecar)
    assert eventually(lambda: running.prometheus.value("up") == 1)
    yield running
    running.end()


def expressions() -> set[str]:
    """Every expression of the shipped panels, annotations and recording rules."""
    found = {rule["expr"] for rule in RULES if "record" in rule}
    for dashboard in DASHBOARDS.values():
        found |= {target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}
        found |= {annotation["expr"] for annotation in dashboard["annotations"]["list"] if "expr" in annotation}
    return found


def test_every_expression_returns_data(watched: Watched) -> None:
    without = expressions()
    assert len(without) > 20
    watched.traffic.burst()
    watched.restart()

    def all_returned() -> bool:
        watched.traffic.burst()
        without.difference_update([expression for expression in without if watched.has_data(expression)])
        return not without

    eventually(all_returned, timeout=20)
    assert without == set()


def let_a_disk_be_full(watched: Watched) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can forbid another process to write")
    resource.prlimit(watched.sidecar.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    watched.traffic.burst()


# In this order: what comes later hides what came before.
SITUATIONS: dict[str, Callable[[Watched], None]] = {
    "TradesRejected": lambda watched: watched.traffic.burst(),
    "TradesLost": lambda watched: watched.traffic.burst(),
    "TradeDeliverySlow": lambda watched: watched.traffic.burst(age=30.0),
    "CommitFailing": let_a_disk_be_full,
    "SidecarDown": lambda watched: watched.sidecar.end(),
    "SidecarNotScraped": lambda watched: watched.prometheus.forget_the_job(),
}


def test_every_alert_is_due_in_its_situation(watched: Watched) -> None:
    """For real; how long each waits, and that it is silent else, is specified in the tests of the rules."""
    assert SITUATIONS.keys() == ALERTS.keys()
    assert eventually(lambda: not any(watched.is_due(alert) for alert in ALERTS))
    for alert, bring_about in SITUATIONS.items():
        bring_about(watched)
        assert eventually(partial(watched.is_due, alert)), alert
        texts = json.dumps(watched.prometheus.api("alerts"))
        assert "error expanding" not in texts
        assert ': ",' not in texts, "a label that is not there"


def test_the_rules_fire_and_stay_silent() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", *PROMETHEUS.glob("rules/*.yml"))
    promtool("test", "rules", PROMETHEUS / "tests/rules.yml")
    assert {name for name in ALERTS if name not in (PROMETHEUS / "tests/rules.yml").read_text()} == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_means_and_what_to_do(alert: str) -> None:
    assert ALERTS[alert]["labels"]["severity"] in {"critical", "warning"}
    assert ALERTS[alert]["annotations"].keys() == {"summary", "description", "action"}
    assert f"### {alert}\n" in (ROOT / "docs/operations.md").read_text()


def test_the_metrics_follow_the_naming_rules(sidecar: Sidecar) -> None:
    promtool("check", "metrics", stdin=get(f"{sidecar.url}/metrics"))


def test_the_dashboards_are_provisioned_with_their_data_source() -> None:
    """Grafana finds the folder and the data source where the containers have them."""
    grafana = yaml.safe_load((ROOT / "infra/docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/dashboards.yml").read_text())["providers"][0]
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (home.parent, home.stem) == (Path(provider["options"]["path"]), "trading-telemetry")
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert (source["type"], source["uid"], source["url"]) == ("prometheus", "prometheus", "http://prometheus:9090")
    scrape_interval = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_interval == "1s"


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_is_complete(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    assert (dashboard["uid"], dashboard["id"], dashboard["refresh"]) == (uid, None, "5s")
    # What Grafana 9.4 writes; later ones read it too.
    assert dashboard["schemaVersion"] <= 38
    assert {link["url"] for link in dashboard["links"]} == {f"/d/{other}" for other in DASHBOARDS if other != uid}
    (restarts,) = (annotation for annotation in dashboard["annotations"]["list"] if "expr" in annotation)
    assert restarts["name"] == "Side-car restarts"
    assert restarts["expr"].startswith("process_start_time_seconds")
    assert restarts["expr"].endswith(" * 1000")
    assert restarts["useValueForTime"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_the_panels_fill_the_grid_from_left_to_right_and_top_to_bottom(uid: str) -> None:
    places = [panel["gridPos"] for panel in DASHBOARDS[uid]["panels"]]
    assert places == sorted(places, key=lambda place: (place["y"], place["x"]))
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert set(cells) == set(itertools.product(range(24), range(max(y for _, y in cells) + 1))), "a hole in the grid"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["type"] in {"stat", "timeseries", "heatmap"}, "a panel that Grafana 9.4 may not have"
    assert panel["title"]
    assert panel["description"].endswith(".")
    unit = panel["options"]["yAxis"]["unit"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]["unit"]
    assert unit not in {"", "none", "short"}
    assert {
        source["uid"] for source in (panel["datasource"], *(query["datasource"] for query in panel["targets"]))
    } == {"prometheus"}


@pytest.mark.parametrize("panel", PANELS)
def test_what_a_panel_calls_a_quantile_is_that_one(panel: dict[str, Any]) -> None:
    for query in panel["targets"]:
        for named in re.findall(r"p(\d\d)", f"{query['legendFormat']} {panel['title']}"):
            assert f"histogram_quantile(0.{named.rstrip('0')}," in query["expr"] or f":p{named}_" in query["expr"]


@pytest.mark.parametrize("panel", PANELS)
def test_a_time_of_day_is_in_milliseconds_and_a_heat_map_has_its_format(panel: dict[str, Any]) -> None:
    if panel["fieldConfig"]["defaults"].get("unit") == "dateTimeAsLocal":
        assert panel["targets"][0]["expr"].endswith(" * 1000")
    assert {query["format"] for query in panel["targets"]} == {
        "heatmap" if panel["type"] == "heatmap" else "time_series"
    }


@pytest.mark.parametrize("panel", PANELS)
def test_buy_is_green_and_sell_is_red(panel: dict[str, Any]) -> None:
    colours = {
        override["matcher"]["options"]: property_["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
        for property_ in override["properties"]
        if property_["id"] == "color"
    }
    if any(re.search(r"by \(side\)", query["expr"]) for query in panel["targets"]):
        assert colours == {"buy": "green", "sell": "red"}
    else:
        assert not colours.keys() & {"buy", "sell"}
