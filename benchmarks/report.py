"""Writes what was measured: tables for a terminal; docs/benchmarks.md with its pictures."""

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import publish
import receive
import recover
import scrape
import visible
from matplotlib.axes import Axes
from results import Table, spread

TABLES: tuple[Table, ...] = (
    publish.TABLE,
    *receive.TABLES.values(),
    visible.TABLE,
    recover.TABLE,
    scrape.BY_SESSIONS,
    scrape.BY_TRADES,
)
DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = (
    *("pyzmq", "msgspec", "pydantic", "fastapi", "uvicorn", "prometheus-client"),
    *("statsd", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
)


def text(left_out: dict[str, str]) -> Iterator[str]:
    """All tables, as Markdown."""
    for table in TABLES:
        if table.rows:
            yield f"\n### {table.title}\n"
            yield from table.markdown()
    for name, reason in left_out.items():
        yield f"\nLeft out: {name}: {reason}"


def machine() -> Iterator[str]:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = cpu[1] if cpu else platform.machine()
    disk = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", tempfile.gettempdir()]
    files = subprocess.run(disk, capture_output=True, text=True, check=False).stdout.strip()
    yield f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, files on {files or 'what?'}."
    yield f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES) + "."


def targets() -> Iterator[str]:
    """What is to be reached, and what was."""
    yield "| figure | to reach | measured | reached |"
    yield "| --- | --- | --- | --- |"
    for figure, goal, measured, reached in (*_rates(), *_calls(), *_times()):
        yield f"| {figure} | {goal} | {measured} | {'yes' if reached else '**no**'} |"


type Target = tuple[str, str, str, bool]


def _rates() -> Iterator[Target]:
    for (load, senders), table in receive.TABLES.items():
        by = f"{'prepared messages' if load == 'prepared' else 'publishers'}, {senders}"
        share = table.ratio("side-car", "trades a second")
        lost = max(table.rows["side-car"]["lost"])
        yield (
            f"side-car to the bare loop, {by}",
            "70 %, none lost",
            f"{100 * share:.0f} %, {lost:.2%} lost",
            share >= 0.7 and not lost,
        )
        for peer, goal in ("tutorial", 20.0), ("collectd, statsd", 1.0):
            if peer in table.rows:
                times = table.ratio("side-car", "trades a second", peer)
                yield f"side-car to {peer}, {by}", f"{goal:g} times or more", f"{times:.1f} times", times >= goal


def _calls() -> Iterator[Target]:
    table, figure = publish.TABLE, "in a burst"
    for outbox, goal in ("memory", 2.5), ("durable", 25.0):
        row = f"publish(), {outbox} outbox"
        times = table.ratio(row, figure)
        yield f"{row}, to raw send", f"{goal:g} times or less", f"{times:.2f} times", times <= goal
    for peer in "json.dumps, send_string", "statsd, UDP", "OpenTelemetry SDK", "HTTP POST to FastAPI":
        if peer in table.rows:
            times = table.ratio(peer, "in a burst", "publish(), memory outbox")
            yield f"{peer} to publish(), memory outbox", "more than 1", f"{times:.1f} times", times > 1


def _times() -> Iterator[Target]:
    p99 = 1e3 * visible.TABLE.median("10,000 trades a second", "p99")
    yield "click to visible at 10,000/s, p99", "under 5 ms", f"{p99:.1f} ms", p99 < 5
    row = recover.TABLE.contestants[-1]
    seconds, wrong = recover.TABLE.median(row, "time"), max(recover.TABLE.rows[row]["lost or counted twice"])
    yield f"recovery, {row}", "under 10 s, exact", f"{seconds:.1f} s, {wrong:.0f} wrong", seconds < 10 and not wrong
    for table in scrape.BY_SESSIONS, scrape.BY_TRADES:
        row = table.contestants[-1]
        took, times = 1e3 * table.median(row, "time"), table.ratio(row, "time")
        measured = f"{took:.1f} ms, {times:.2f} times that of {table.reference}"
        yield f"scrape with {row}", "under 5 ms, flat", measured, took < 5 and times < 1.25
    row = scrape.BY_TRADES.contestants[-1]
    memory, times = scrape.BY_TRADES.median(row, "memory") / 1e6, scrape.BY_TRADES.ratio(row, "memory")
    measured = f"{memory:.0f} MB, {times:.2f} times that of {scrape.BY_TRADES.reference}"
    yield f"memory after {row}", "under 100 MB, flat", measured, memory < 100 and times < 1.1


def write(left_out: dict[str, str]) -> None:
    """Put the figures into docs/benchmarks.md, between its markers, and draw the pictures beside it."""
    page = DOCS / "benchmarks.md"
    measured = "\n".join([*machine(), "", "### What was to be reached\n", *targets(), *text(left_out)])
    parts = re.split(r"(<!-- /?measured -->)", page.read_text())
    page.write_text("".join([*parts[:2], f"\n\n{measured}\n\n", *parts[3:]]))
    pictures = DOCS / "benchmarks"
    pictures.mkdir(exist_ok=True)
    # The same figures give the same file.
    plt.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    for name, draw in (("publish", _draw_calls), ("receive", _draw_rates), ("visible", _draw_visible)):
        figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
        draw(axes)
        figure.savefig(pictures / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _bars(axes: Axes, table: Table, offset: float = 0, label: str = "") -> None:
    """One bar or dot a contestant: the median of the first figure, with a line from the lowest to the highest."""
    column = table.columns[0]
    for place, row in enumerate(table.contestants):
        values = [value * column.scale for value in table.rows[row][column.name]]
        low, high = spread(values)
        median = table.median(row, column.name) * column.scale
        ours = row.startswith(("publish()", "side-car"))
        color = "#1f77b4" if ours else "#6b7785"
        if axes.get_xscale() == "log":  # on which the length of a bar has no meaning
            axes.plot(median, place + offset, "o", color=color)
        else:
            axes.barh(place + offset, median, 0.38, color=color)
        axes.plot([low, high], [place + offset] * 2, color="#333333", linewidth=1)
        axes.annotate(
            f" {median:,.1f}" if median < 100 else f" {median:,.0f}{label}",
            (high, place + offset),
            verticalalignment="center",
        )


def _name_rows(axes: Axes, table: Table) -> None:
    axes.set_yticks(range(len(table.contestants)), table.contestants)
    axes.invert_yaxis()
    axes.margins(x=0.15)


def _draw_calls(axes: Axes) -> None:
    axes.set_xscale("log")
    _bars(axes, publish.TABLE)
    _name_rows(axes, publish.TABLE)
    axes.set_xlabel("time of one call in a burst, us (logarithmic), median and range")


def _draw_rates(axes: Axes) -> None:
    for senders, offset in (1, -0.2), (4, 0.2):
        _bars(axes, receive.TABLES["prepared", senders], offset, f" from {senders}")
    _name_rows(axes, receive.TABLES["prepared", 1])
    axes.set_xlabel("trades a second from 1 and from 4 sending processes, median and range")
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _draw_visible(axes: Axes) -> None:
    table = visible.TABLE
    for number, column in enumerate(table.columns[:3]):
        places = [place + 0.27 * (number - 1) for place in range(len(table.contestants))]
        medians = [table.median(row, column.name) * column.scale for row in table.contestants]
        axes.bar(places, medians, 0.25, label=column.name, color=("#1f77b4", "#6baed6", "#c6dbef")[number])
    axes.set_xticks(range(len(table.contestants)), table.contestants)
    axes.axhline(5, color="#333333", linewidth=0.8, linestyle="--")
    axes.set_ylabel("from publish() to /metrics, ms")
    axes.legend(frameon=False)
