"""Rules and alerts on a real Prometheus that scrapes a real sidecar."""

import itertools
import json
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


class Watched:
    """A sidecar, its traffic, and the Prometheus that scrapes it."""

    def __init__(self, folder: Path, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.traffic = Traffic(self.sidecar.address)
        self.prometheus = Prometheus(folder / "prometheus", self.sidecar.url.removeprefix("http://"), free_port())

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
