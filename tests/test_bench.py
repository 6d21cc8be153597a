"""``bin/bench`` measures what it says, and finds that no trade is lost. Speed itself is not tested."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from benchmarks import imports, publish, receive, recover, report, scrape, visible
from benchmarks.__main__ import measurements, select
from benchmarks.emitters import EMITTERS
from benchmarks.plan import QUICK
from harness.tools import ROOT

# One measurement of each kind, and each peer; the names of the rows in which they appear, with the number of tables.
MEASURED = {
    "publish: raw send, symbol": {"raw send, symbol and price": 3},
    "publish: publish(), durable journal, symbol": {"publish(), durable journal, symbol and price": 3},
    "publish: publish(), durable journal, sidecar restarting": {"publish(), durable journal, sidecar restarting": 3},
    "publish: statsd": {"statsd, UDP": 3},
    "publish: OpenTelemetry": {"OpenTelemetry SDK": 3},
    "publish: HTTP": {"HTTP POST to FastAPI": 3},
    "receive: bare loop, single messages, 1": {"bare loop, single messages": 1},
    "receive: sidecar, real publishers, 4": {"sidecar, real publishers": 1},
    "receive: sidecar, batches of 500, 1 symbol, 1": {"sidecar, batches of 500, 1 symbol": 1},
    "receive: asyncio tutorial, single messages, 1": {"asyncio tutorial, single messages": 1},
    "visible: 10,000/s, the thread never sleeps": {"10,000/s, the thread never sleeps": 1},
    "recover": {"none waiting": 1, "100,000 waiting": 1, "200,000 waiting": 1},
    "imports": {imports.NEEDED: 1, imports.LIBRARY: 1},
    "scrape: symbols": {"no symbol": 1, "100 symbols": 1},
}


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="bin/bench needs Linux")
def test_a_quick_run_has_every_figure_and_loses_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", *MEASURED, "receive: collectd, statsd, 1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = [re.split(r" *\| *", line)[1:-1] for line in run.stdout.splitlines() if line.startswith("|")]
    names = [row[0] for row in rows]
    for expected in MEASURED.values():
        assert {name: names.count(name) for name in expected} == expected
    assert "collectd, statsd" in names or "collectd-core" in run.stdout
    assert all(row[-1] for row in rows if row[0])
    lost = {row[0]: row[3] for row in rows if row[0].startswith(("sidecar, ", "bare loop"))}
    assert set(lost.values()) == {"0"}, lost
    wrong = {row[0]: row[3] for row in rows if row[0].endswith(" waiting")}
    assert set(wrong.values()) == {"0"}, wrong


def test_a_name_that_no_measurement_begins_with_is_refused() -> None:
    with pytest.raises(LookupError, match="no measurement begins with 'nothing': publish: raw send, "):
        select(measurements(QUICK), ["receive", "nothing"])


@pytest.fixture
def measured() -> Iterator[None]:
    """Every figure of every contestant is 1."""
    rows: dict[str, list[str]] = {
        **{table.title: list(EMITTERS) for table in publish.TABLES.values()},
        **{table.title: list(receive.CONTESTANTS) for table in receive.TABLES.values()},
        visible.TABLE.title: [visible.row_of(10_000, mode) for mode in visible.MODES],
        recover.TABLE.title: [recover.row_of(waiting) for waiting in (0, QUICK.waiting, QUICK.many_waiting)],
        imports.TABLE.title: [imports.NEEDED, imports.LIBRARY],
        scrape.BY_SESSIONS.title: [scrape.row_of_sessions(sessions) for sessions in QUICK.sessions],
        scrape.BY_TRADES.title: [scrape.row_of_trades(trades) for trades in (1_000, QUICK.many)],
        scrape.BY_SYMBOLS.title: [scrape.row_of_symbols(symbols) for symbols in QUICK.symbols],
    }
    for table in report.TABLES:
        for row in rows[table.title]:
            table.add(row, **{column.name: 1.0 for column in table.columns})
    yield
    for table in report.TABLES:
        table.rows.clear()


@pytest.mark.usefixtures("measured")
def test_the_report_begins_with_the_targets_and_those_with_the_missed_ones() -> None:
    text = "\n".join(report.text({}, complete=True))
    assert text.startswith("### Targets\n")
    tables = [table.splitlines()[2:] for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)]
    targets = [re.split(r" *\| *", line)[1:-1] for line in tables[0]]
    missed = [row[3] != "yes" for row in targets]
    assert missed == sorted(missed, reverse=True)
    assert all(row[3] == "yes" or re.fullmatch(r"\*\*missed by [\d,]+%?\*\*", row[3]) for row in targets)
    exact = {row[0]: row[2:] for row in targets if row[1] == "at most 0 trades"}
    assert exact == {
        "sidecar, lost in all of these": ["12 trades", "**missed by 12**"],
        "100,000 waiting, lost or counted twice": ["1 trades", "**missed by 1**"],
        "200,000 waiting, lost or counted twice": ["1 trades", "**missed by 1**"],
    }
