"""Rules and alerts on a real Prometheus that scrapes a real sidecar."""

import itertools
import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
import zmq
from harness.databases import Prometheus
from harness.ports import free_port
from harness.publishing import Publishing, reconcile_seconds
from harness.sidecar import Sidecar
from harness.tools import ROOT, replace, tool
from harness.waiting import eventually, get

PROMETHEUS = ROOT / "infra/prometheus"
RULES = [
    rule
    for path in sorted(PROMETHEUS.glob("rules/*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


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


@dataclass
class Watched:
    """Two sidecars, traffic to the first, a publisher to one that never starts, and the Prometheus in ``folder``."""

    sidecar: Sidecar
    other: Sidecar
    traffic: Traffic
    publishing: Publishing
    prometheus: Prometheus
    folder: Path

    def is_due(self, alert: str) -> bool:
        """Whether the alert's condition holds, for however short a time yet."""
        return bool(self.prometheus.query(f'ALERTS{{alertname="{alert}"}}'))


@pytest.fixture
def watched(tmp_path: Path, sidecar: Sidecar) -> Iterator[Watched]:
    folder = tmp_path / "prometheus"
    with (
        Sidecar(tmp_path / "other") as other,
        closing(Traffic(sidecar.address)) as traffic,
        closing(Publishing(Sidecar(tmp_path / "never"))) as publishing,
        Prometheus(folder, sidecar.url.removeprefix("http://"), free_port()) as prometheus,
    ):
        prometheus.set_targets("metrics-sidecar", other.url.removeprefix("http://"))
        assert eventually(lambda: prometheus.value('sum(up{job="metrics-sidecar"})') == 2)
        yield Watched(sidecar, other, traffic, publishing, prometheus, folder)


def restart_three_times(watched: Watched) -> None:
    for starts in range(1, 4):
        watched.other.end()
        watched.other.start()
        changes = 'max(changes(process_start_time_seconds{job="metrics-sidecar"}[10m]))'
        assert eventually(lambda: watched.prometheus.value(changes) == starts), starts  # noqa: B023


def forbid_writes(watched: Watched) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can forbid another process to write")
    resource.prlimit(watched.sidecar.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    watched.traffic.burst()


def let_trades_wait(watched: Watched) -> None:
    watched.publishing.publish(5)
    watched.prometheus.set_targets("trading-app", watched.publishing.instance)


def break_a_rule(watched: Watched) -> None:
    """Valid, but there is more than one target to match."""
    group = {"name": "broken", "rules": [{"record": "all:up:broken", "expr": "up * on () up"}]}
    (watched.folder / "rules/broken.yml").write_text(yaml.safe_dump({"groups": [group]}))
    watched.prometheus.reload()


def break_the_configuration(watched: Watched) -> None:
    (watched.folder / "rules/broken.yml").write_text("groups: nothing")
    watched.prometheus.reload()


# In this order: what comes later hides what came before.
SITUATIONS: dict[str, Callable[[Watched], None]] = {
    "TradesRejected": lambda watched: watched.traffic.burst(),
    "TradesLost": lambda watched: watched.traffic.burst(),
    "TradeDeliverySlow": lambda watched: watched.traffic.burst(age=30.0),
    "ClocksDisagree": lambda watched: watched.traffic.burst(age=-30.0),
    "RuleFailing": break_a_rule,
    "ConfigurationRejected": break_the_configuration,
    "SidecarRestarting": restart_three_times,
    "SidecarGone": lambda watched: watched.prometheus.set_targets("metrics-sidecar"),
    "CommitFailing": forbid_writes,
    "BacklogNotDraining": let_trades_wait,
    "SidecarDown": lambda watched: watched.sidecar.end(),
    "SidecarNotScraped": lambda watched: watched.prometheus.remove_scrape_configs(),
}


def test_every_alert_is_due_in_its_situation(watched: Watched) -> None:
    """For real; how long each waits, and that it is otherwise silent, is specified in the tests of the rules."""
    assert SITUATIONS.keys() | {"TradesMissing"} == ALERTS.keys()
    assert eventually(lambda: not any(watched.is_due(alert) for alert in ALERTS))
    for alert, bring_about in SITUATIONS.items():
        bring_about(watched)
        assert eventually(partial(watched.is_due, alert), timeout=60), alert
        texts = json.dumps(watched.prometheus.api("alerts"))
        assert "error expanding" not in texts
        assert ': ",' not in texts, "a label that is not there"


@pytest.fixture
def forgetful(tmp_path: Path) -> Sidecar:
    """A sidecar that does not count one tracked trade after its ninth, and does not notice."""
    sources = shutil.copytree(ROOT / "metrics-sidecar/src", tmp_path / "src")
    ledger = sources / "metrics_sidecar/ledger.py"
    right = "        self.received += len(messages)\n"
    # Once, however many trades arrive together.
    tenth = "self._tracked + len(counted) - untracked >= 10 and not hasattr(self, 'forgot')"
    wrong = f"{right}        if {tenth}:\n            self.forgot = counted.pop()\n"
    replace(ledger, right, wrong)
    return Sidecar(tmp_path / "forgetful", PYTHONPATH=str(sources))


def test_a_trade_that_is_committed_but_not_counted_is_missed(tmp_path: Path, forgetful: Sidecar) -> None:
    """While the sidecar is away it waits. Once the window has passed, nothing is missing any more."""
    with (
        forgetful,
        closing(Publishing(forgetful)) as publishing,
        Prometheus(tmp_path / "prometheus", forgetful.url.removeprefix("http://"), free_port()) as prometheus,
    ):
        missing = partial(prometheus.value, "fleet:trades_missing:increase5m")
        prometheus.set_targets("trading-app", publishing.instance)
        assert eventually(lambda: prometheus.value("sum(up)") == 3)
        reconcile_seconds(prometheus, tmp_path / "prometheus")
        assert eventually(lambda: missing() == 0, timeout=60)
        forgetful.end()
        publishing.publish(9)
        assert eventually(lambda: prometheus.value("publisher_pending_trades") == 9)
        assert eventually(lambda: missing() is None)
        forgetful.start()
        assert eventually(lambda: prometheus.value("publisher_pending_trades") == 0)
        assert eventually(lambda: missing() == 0)
        publishing.publish(20)
        assert eventually(lambda: missing() == 1)
        assert eventually(lambda: bool(prometheus.query('ALERTS{alertname="TradesMissing"}')))
        assert eventually(lambda: missing() == 0, timeout=60)
        publishing.publish(20)
        assert publishing.publisher.flush(30)
        assert eventually(lambda: prometheus.value("instance:publisher_trades:committed offset 5s") == 49)
        assert missing() == 0


def test_the_rules_fire_and_stay_silent() -> None:
    tests = sorted(PROMETHEUS.glob("tests/*.yml"))
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", *PROMETHEUS.glob("rules/*.yml"))
    promtool("test", "rules", *tests)
    tested = "".join(path.read_text() for path in tests)
    assert {name for name in ALERTS if f"alertname: {name}\n" not in tested} == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_means_and_where_to_look(alert: str) -> None:
    annotations = ALERTS[alert]["annotations"]
    assert ALERTS[alert]["labels"]["severity"] in {"critical", "warning"}
    assert annotations.keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    runbook, _, anchor = annotations["runbook_url"].partition("#")
    assert f"### {alert}\n" in (ROOT / runbook).read_text()
    assert anchor == alert.lower()
    dashboard = re.fullmatch(r"http://localhost:3000/d/([\w-]+)(\?.*)?", annotations["dashboard_url"])
    assert dashboard
    assert (ROOT / f"infra/grafana/dashboards/{dashboard[1]}.json").exists()


def test_the_metrics_follow_the_naming_rules(sidecar: Sidecar) -> None:
    promtool("check", "metrics", stdin=get(f"{sidecar.url}/metrics"))
