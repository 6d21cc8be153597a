"""The plots of docs/benchmarks.md. Each compares figures of one kind."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks import publish, receive, visible
from benchmarks.results import Table, spread

OURS, OTHERS = "#1f77b4", "#6b7785"
SHADES = "#1f77b4", "#6baed6", "#c6dbef"
PERCENTILES = "p50", "p99", "p99.9"


def write(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    # The same figures produce the same file.
    plt.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    for name, height, draw in (
        ("publish", 4.6, _draw_calls),
        ("receive", 3.4, _draw_rates),
        ("visible", 3.4, _draw_delays),
    ):
        figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
        draw(axes)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _draw_calls(axes: Axes) -> None:
    """Draw a dot for each percentile: the length of a bar has no meaning on a logarithmic axis."""
    table = publish.TABLES[publish.SUSTAINED]
    rows = table.contestants
    for place, row in enumerate(rows):
        values = [table.median(row, percentile) * 1e6 for percentile in PERCENTILES]
        color = OURS if row.startswith("publish()") else OTHERS
        axes.plot(values, [place] * 3, color=color, linewidth=1)
        for value, marker in zip(values, "o|>", strict=True):
            axes.plot(value, place, marker, color=color)
        axes.annotate(f"{values[0]:,.1f}  ", (values[0], place), ha="right", va="center")
    axes.set_xscale("log")
    axes.margins(x=0.12)
    _name_rows(axes, rows)
    axes.set_xlabel(f"one call in {publish.SUSTAINED.name}, us: p50 (dot), p99 (bar), p99.9 (arrow)")


def _draw_rates(axes: Axes) -> None:
    rows = receive.TABLES[1].contestants
    for (senders, table), offset in zip(receive.TABLES.items(), (-0.2, 0.2), strict=True):
        for place, row in enumerate(rows):
            _bar(axes, table, row, place + offset, f" from {senders}")
    _name_rows(axes, rows)
    axes.margins(x=0.15)
    axes.set_xlabel("trades counted a second, from 1 and from 4 processes: median and range")
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _bar(axes: Axes, table: Table, row: str, place: float, label: str) -> None:
    values = table.rows[row]["trades a second"]
    low, high = spread(values)
    median = table.median(row, "trades a second")
    axes.barh(place, median, 0.38, color=OURS if row.startswith("sidecar") else OTHERS)
    axes.plot([low, high], [place] * 2, color="#333333", linewidth=1)
    axes.annotate(f" {median:,.0f}{label}", (high, place), va="center")


def _draw_delays(axes: Axes) -> None:
    rows = visible.TABLE.contestants
    for number, percentile in enumerate(PERCENTILES):
        places = [place + 0.27 * (number - 1) for place in range(len(rows))]
        medians = [visible.TABLE.median(row, percentile) * 1e3 for row in rows]
        axes.barh(places, medians, 0.25, label=percentile, color=SHADES[number])
    _name_rows(axes, rows)
    axes.set_xlabel("from publish() to /metrics, ms")
    axes.legend(frameon=False)


def _name_rows(axes: Axes, rows: list[str]) -> None:
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
