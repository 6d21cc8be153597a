"""Every trade is counted exactly once, whichever process is killed: the scenarios of ``bin/chaos``, small."""

import os
from pathlib import Path

import pytest
from harness import chaos
from harness.tools import unavailable

SMALL = chaos.Plan(trades=6_000, sidecar_kills=4, publisher_kills=1)


def test_every_trade_is_counted_once_when_both_sides_are_killed(tmp_path: Path) -> None:
    assert chaos.kill(tmp_path, SMALL).problems == []


@pytest.mark.long
@pytest.mark.parametrize(
    "scenario", ["curve", "fleet", "freeze", "close-port", "rollover", "reload", "overflow", "amnesia"]
)
def test_every_trade_is_counted_once(scenario: str, tmp_path: Path) -> None:
    assert chaos.SCENARIOS[scenario](tmp_path, SMALL).problems == []


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["fill-disk", "fill-outbox"])
def test_every_trade_is_counted_once_when_a_disk_is_full(scenario: str, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not Path("/proc").exists():
        unavailable("a small disk needs root and Linux")
    assert chaos.SCENARIOS[scenario](tmp_path, SMALL).problems == []
