"""bin/bench: it measures what it says, and finds that nothing is lost. How fast anything is, is no test."""

import os
import re
import subprocess
import sys

import pytest
from stack import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="bin/bench takes Linux")
def test_a_quick_run_has_every_figure_and_loses_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "benchmarks", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "tests"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = [re.split(r" *\| *", line)[1:-1] for line in run.stdout.splitlines() if line.startswith("|")]
    named = {row[0]: row for row in rows}
    for contestant in (
        "raw send",
        "publish(), durable outbox",
        "statsd, UDP",
        "OpenTelemetry SDK",
        "bare loop",
        "tutorial",
    ):
        assert all(named[contestant][1:4]), contestant
    assert "collectd, statsd" in named or "collectd-core" in run.stdout
    assert [row[3] for row in rows if row[0] == "side-car"] == ["0.0"] * 4
    assert named["100,000 waiting"][3] == "0"
    for figure in "10,000 trades a second", "10,000 sessions", "200,000 trades", "scrape with 10,000 sessions":
        assert all(named[figure]), figure
