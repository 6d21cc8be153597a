"""bin/bench measures what it says, and finds that nothing is lost. How fast anything is, is no test."""

import re
import subprocess
import sys

import pytest
from harness.stack import ROOT

CALLS = (
    "raw send",
    "publish(), memory journal",
    "publish(), durable journal",
    "publish(), memory journal, symbol and price",
    "publish(), durable journal, symbol and price",
    "publish(), durable journal, sidecar away",
    "publish(), durable journal, sidecar restarting",
    "json.dumps, send_string",
    "statsd, UDP",
    "OpenTelemetry SDK",
    "HTTP POST to FastAPI",
)
RECEIVERS = (
    "bare loop, single messages",
    "sidecar, real publishers",
    "sidecar, batches of 500",
    "sidecar, single messages",
    "asyncio tutorial, single messages",
)
EXACT = (
    "sidecar, lost in all of these",
    "100,000 waiting, lost or counted twice",
    "200,000 waiting, lost or counted twice",
)


@pytest.mark.skipif(sys.platform != "linux", reason="bin/bench takes Linux")
def test_a_quick_run_has_every_figure_and_loses_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = [re.split(r" *\| *", line)[1:-1] for line in run.stdout.splitlines() if line.startswith("|")]
    names = [row[0] for row in rows]
    assert {name: names.count(name) for name in CALLS} == dict.fromkeys(CALLS, 3)
    assert {name: names.count(name) for name in RECEIVERS} == dict.fromkeys(RECEIVERS, 2)
    assert names.count("collectd, statsd") == 2 or "collectd-core" in run.stdout
    for name in (
        "10,000/s, the thread never sleeps",
        "10,000 sessions",
        "200,000 trades",
        "200,000 waiting",
        "pyzmq and msgspec",
    ):
        assert name in names
    assert all(all(row[1:]) for row in rows if row[0] in {*CALLS, *RECEIVERS})
    targets = [row for row in rows if len(row) == 4 and row[1].startswith("at ")]
    assert [row[2:] for row in targets if row[0] in EXACT] == [["0 trades", "yes"]] * 3
    missed = [row[3] != "yes" for row in targets]
    assert missed == sorted(missed, reverse=True), "missed targets come first"
    assert all(row[3] == "yes" or re.fullmatch(r"\*\*missed by [\d,]+%?\*\*", row[3]) for row in targets)
