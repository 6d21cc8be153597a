"""Writes the results: tables for a terminal, and docs/benchmarks.md with its plots."""

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks import imports, publish, receive, recover, scrape, visible
from benchmarks.results import Table
from benchmarks.targets import targets

TABLES: tuple[Table, ...] = (
    *publish.TABLES.values(),
    *receive.TABLES.values(),
    visible.TABLE,
    recover.TABLE,
    scrape.BY_SESSIONS,
    scrape.BY_TRADES,
    scrape.BY_SYMBOLS,
    imports.TABLE,
)
DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = (
    *("pyzmq", "msgspec", "pydantic", "fastapi", "uvicorn", "prometheus-client"),
    *("statsd", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
)


def text(left_out: dict[str, str], *, complete: bool) -> Iterator[str]:
    """All tables as Markdown; the targets come first if everything was measured."""
    if complete:
        yield from ("### Targets\n", *targets())
    for table in TABLES:
        if table.rows:
            yield f"\n### {table.title}\n"
            yield from table.markdown()
    for name, reason in left_out.items():
        yield f"\nLeft out: {name}: {reason}"


def machine() -> str:
    """The machine, its load and the versions of the packages."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = cpu[1] if cpu else platform.machine()
    disk = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", tempfile.gettempdir()]
    files = subprocess.run(disk, capture_output=True, text=True, check=False).stdout.strip() or "?"
    return (
        f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, files on {files}; load average"
        f" before the run {os.getloadavg()[0]:.1f}.\nPython {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + "."
    )


def write(measured_on: str, left_out: dict[str, str]) -> None:
    """Write the figures between the markers of docs/benchmarks.md, and draw its plots."""
    from benchmarks import plots  # noqa: PLC0415 - matplotlib takes two seconds to import

    page = DOCS / "benchmarks.md"
    measured = "\n".join([measured_on, "", *text(left_out, complete=True)])
    parts = re.split(r"(<!-- /?measured -->)", page.read_text())
    page.write_text("".join([*parts[:2], f"\n\n{measured}\n\n", *parts[3:]]))
    plots.write(DOCS / "benchmarks")
