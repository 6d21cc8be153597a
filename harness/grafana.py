"""A dashboard as Grafana shows it: a real Prometheus answers the queries, the panels' options are applied."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

type Json = dict[str, Any]

_REDUCERS: dict[str, Callable[[list[float]], float]] = {
    "lastNotNull": lambda values: values[-1],
    "firstNotNull": lambda values: values[0],
    "min": min,
    "max": max,
    "mean": lambda values: sum(values) / len(values),
}
# Grafana uses four times the scrape interval, which is one second.
RATE_INTERVAL = "4s"


@dataclass(frozen=True)
class Series:
    """One series of a panel: ``values`` a second apart, or a single value in a stat or a table."""

    values: list[float]
    unit: str
    colour: str
    text: str


@dataclass(frozen=True)
class _Answer:
    labels: dict[str, str]
    values: list[float]


class Ambiguous(Exception):
    """Two things have the same name."""


class View:
    """A dashboard that shows the time from ``start`` to ``end``, in Unix seconds, with the ``chosen`` variables.

    A variable that is not chosen is set to All. ``api`` returns the answer of Prometheus's HTTP API for a path.
    """

    def __init__(
        self, dashboard: Json, api: Callable[[str], Json], start: float, end: float, chosen: dict[str, str]
    ) -> None:
        self._dashboard = dashboard
        self._api = api
        self._start, self._end = start, end
        self._chosen = chosen

    def panels(self) -> dict[str, Json]:
        """The panels that are visible without opening a row, by title."""
        panels: dict[str, Json] = {}
        for panel in self._dashboard["panels"]:
            if panel["title"] in panels:
                raise Ambiguous(f"two panels are called {panel['title']}")
            panels[panel["title"]] = panel
        return {title: panel for title, panel in panels.items() if panel["type"] != "row"}

    def shown(self, panel: Json) -> dict[str, Series]:
        """The series that the panel shows, by name; a table's cells by row and column."""
        fields = self._cells(panel) if panel["type"] == "table" else self._fields(panel)
        shown: dict[str, Series] = {}
        for name, field, values in fields:
            if name in shown:
                raise Ambiguous(f"{panel['title']} shows two series called {name}")
            series = _drawn(panel, field, values)
            if series:
                shown[name] = series
        return shown

    def annotations(self) -> set[tuple[str, int]]:
        """Pairs of text and Unix time in milliseconds."""
        return {
            (_named(annotation["titleFormat"], answer.labels), round(value))
            for annotation in self._dashboard["annotations"]["list"]
            if annotation["enable"] and annotation["datasource"]["type"] == "prometheus"
            for answer in self._answers(annotation["expr"], instant=False)
            for value in answer.values
        }

    def _fields(self, panel: Json) -> Iterator[tuple[str, str, list[float]]]:
        reducers = [_REDUCERS[name] for name in panel["options"].get("reduceOptions", {}).get("calcs", [])]
        for query in _asked(panel):
            answers = self._answers(query["expr"], query["instant"])
            for answer in _buckets(answers) if query["format"] == "heatmap" else answers:
                name = _named(query["legendFormat"], answer.labels)
                numbers = [value for value in answer.values if not math.isnan(value)] or [math.nan]
                yield name, name, [reduce(numbers) for reduce in reducers] or numbers

    def _cells(self, panel: Json) -> Iterator[tuple[str, str, list[float]]]:
        """The cells as ``merge`` and ``organize`` arrange them."""
        merge, organize = panel["transformations"]
        assert (merge["id"], organize["id"]) == ("merge", "organize")
        columns = organize["options"]["renameByName"]
        for query in _asked(panel):
            assert query["instant"]
            column = columns[f"Value #{query['refId']}"]
            for answer in self._answers(query["expr"], instant=True):
                (label, row) = next(iter(answer.labels.items()))
                assert label in columns
                yield f"{row} {column}", column, answer.values

    def _answers(self, expression: str, instant: bool) -> list[_Answer]:
        query = {"query": self._with_variables(expression)}
        if instant:
            found = self._api(f"query?{urlencode({**query, 'time': self._end})}")["result"]
            return [_Answer(_labels(each), [float(each["value"][1])]) for each in found]
        span = {"start": self._start, "end": self._end, "step": 1}
        found = self._api(f"query_range?{urlencode({**query, **span})}")["result"]
        return [_Answer(_labels(each), [float(value) for _, value in each["values"]]) for each in found]

    def _with_variables(self, text: str) -> str:
        for name, value in self._variables.items():
            text = text.replace(f"${name}", value)
        assert "$" not in text.replace("$__rate_interval", ""), text
        return text.replace("$__rate_interval", RATE_INTERVAL)

    @cached_property
    def _variables(self) -> dict[str, str]:
        values: dict[str, str] = {}
        for variable in self._dashboard["templating"]["list"]:
            name = variable["name"]
            assert variable["multi"]
            assert variable["includeAll"]
            chosen = self._chosen.get(name)
            values[name] = _literal(chosen) if chosen else variable["allValue"] or self._all(variable, values)
        return values

    def _all(self, variable: Json, before: dict[str, str]) -> str:
        query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert query
        selector, label = query.groups()
        for name, value in before.items():
            selector = selector.replace(f"${name}", value)
        span = urlencode({"match[]": selector, "start": self._start, "end": self._end})
        found = list(self._api(f"label/{label}/values?{span}"))
        return f"({'|'.join(map(_literal, found))})"


def _literal(value: str) -> str:
    """Escape a value for a regular expression in a PromQL string."""
    return re.sub(r"[\\^$*+?.()|\[\]{}]", r"\\\\\g<0>", value)


def _asked(panel: Json) -> list[Json]:
    return [query for query in panel["targets"] if not query.get("hide")]


def _labels(series: Json) -> dict[str, str]:
    return {name: value for name, value in series["metric"].items() if name != "__name__"}


def _named(legend: str, labels: dict[str, str]) -> str:
    if legend == "__auto":
        return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), legend)


def _buckets(answers: list[_Answer]) -> list[_Answer]:
    """Convert cumulative buckets to the count of each bucket."""
    upto = sorted(answers, key=lambda answer: float(answer.labels["le"]))
    first = [_Answer(upto[0].labels, upto[0].values)] if upto else []
    return first + [
        _Answer(larger.labels, [more - less for more, less in zip(larger.values, smaller.values, strict=True)])
        for smaller, larger in pairwise(upto)
    ]


def _drawn(panel: Json, field: str, values: list[float]) -> Series | None:
    config: Json = dict(panel["fieldConfig"]["defaults"])
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["id"] == "byName"
        if override["matcher"]["options"] == field:
            config |= {each["id"]: each["value"] for each in override["properties"]}
    hidden = config.get("custom.hideFrom") or config.get("custom", {}).get("hideFrom", {})
    if hidden.get("viz"):
        return None
    unit = panel["options"]["yAxis"]["unit"] if panel["type"] == "heatmap" else config["unit"]
    text, colour = _mapped(config, values[-1])
    return Series(values, unit, colour or _colour(config, values[-1]), text)


def _mapped(config: Json, value: float) -> tuple[str, str]:
    """The text and colour that a mapping gives to the value; empty without one."""
    for mapping in config.get("mappings", []):
        options = mapping["options"]
        if mapping["type"] == "special" and options["match"] == "nan" and math.isnan(value):
            return options["result"]["text"], options["result"].get("color", "")
        if mapping["type"] == "value" and f"{value:g}" in options:
            return options[f"{value:g}"]["text"], options[f"{value:g}"].get("color", "")
    return "", ""


def _colour(config: Json, value: float) -> str:
    mode: str = config.get("color", {}).get("mode", "")
    if mode == "fixed":
        return str(config["color"]["fixedColor"])
    if mode != "thresholds":
        return mode
    reached = [step for step in config["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    return str(reached[-1]["color"])
