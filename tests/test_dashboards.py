"""The shipped dashboards against known traffic, on a real Prometheus that scrapes two real sidecars."""

import copy
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
import zmq
from harness.databases import Prometheus
from harness.grafana import Ambiguous, Json, Series, View
from harness.ports import free_port
from harness.publishing import Publishing, reconcile_seconds
from harness.sidecar import Sidecar
from harness.tools import ROOT
from harness.waiting import eventually

PROMETHEUS = ROOT / "infra/prometheus"
GRAFANA = ROOT / "infra/grafana"
DASHBOARDS: dict[str, Json] = {
    path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))
}
PANELS = [
    pytest.param(panel, id=f"{uid}-{panel['title']}")
    for uid, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
ROUNDS = 40
# Queries for more than one sidecar.
OF_ALL = re.compile("ALERTS|publisher_|fleet:|sidecar_trades_tracked_total")
SIDES = {"buy": "green", "sell": "red"}


@dataclass(frozen=True)
class Sent:
    """A trade that was sent; ``measured`` if all of its series had been scraped before it."""

    instance: str
    side: str
    qty: float
    symbol: str = ""
    price: float = 0.0
    measured: bool = True


@dataclass
class Feeder:
    """Sends messages of every kind to one sidecar, and records the trades that it must count."""

    sidecar: Sidecar
    instance: str
    sent: list[Sent] = field(default_factory=list)
    last_ts: float = 0.0

    def __post_init__(self) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.connect(self.sidecar.address)
        self._rounds = itertools.count()

    def introduce(self) -> None:
        """Send one trade of each series: a rate includes only what follows the first sample."""
        for symbol, price in {"BTC-USD": 100.0, "ETH-USD": 10.0, "": 0.0}.items():
            for side, qty in {"buy": 2.0, "sell": 5.0}.items():
                self._trade(Sent(self.instance, side, qty, symbol, price, measured=False))

    def round(self) -> None:
        """Send nine trades that count, three lost, one duplicate, two out of sequence, and three rejected messages."""
        number = next(self._rounds)
        buy, sell = ("buy", 2.0), ("sell", 5.0)
        bitcoin, ether = ("BTC-USD", 100.0), ("ETH-USD", 10.0)
        for side in (buy, buy, buy, sell):
            self._trade(Sent(self.instance, *side, *bitcoin))
        self._trade(Sent(self.instance, *buy, *ether), age=3.5)
        self._trade(Sent(self.instance, *sell, *ether), age=3.5 if number % 4 else 20.0)
        self._trade(Sent(self.instance, *sell))
        session = f"session-{number}"
        self._trade(Sent(self.instance, *buy), session=session, seq=1)
        for seq in (1, 3, 4):
            self._send(type="trade", side="buy", qty=1.0, ts=time.time(), session=session, seq=seq)
        self._send(type="gap_fill", session=session, new_seq=5)
        self._send(type="order")
        self._send(type="order")
        self._socket.send(b"rubbish")
        self._trade(Sent(self.instance, *buy))

    def publish(self, publishing: Publishing) -> None:
        """Publish one trade with a publisher that Prometheus scrapes."""
        publishing.publish(1)
        self.sent.append(Sent(self.instance, "buy", 2.0, "BTC-USD", 100.0))

    def _trade(self, trade: Sent, age: float = 0.0, **tracked: str | int) -> None:
        self.sent.append(trade)
        self.last_ts = time.time() - age
        priced: dict[str, str | float] = {"symbol": trade.symbol, "price": trade.price} if trade.symbol else {}
        self._send(type="trade", side=trade.side, qty=trade.qty, ts=self.last_ts, **priced, **tracked)

    def _send(self, **message: str | float) -> None:
        self._socket.send_string(json.dumps(message))

    def close(self) -> None:
        self._socket.close(linger=0)


@dataclass(frozen=True)
class Moment:
    """A time in Unix seconds, and the samples on /metrics of each instance at that time."""

    at: float
    samples: dict[str, dict[str, float]]


@dataclass
class World:
    """Known traffic between two moments, and a later moment at which the second sidecar was away.

    ``api`` asks Prometheus; all views are of the past, so it asks each question once.
    """

    api: Callable[[str], Json]
    feeders: list[Feeder]
    publishing: Publishing
    before: Moment
    after: Moment
    away: float

    def view(self, dashboard: Json, **chosen: str) -> View:
        return View(dashboard, self.api, self.before.at, self.after.at, chosen)

    def view_while_away(self, dashboard: Json) -> View:
        """A window in which the second sidecar never answered."""
        return View(dashboard, self.api, self.away - 1, self.away, {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with ExitStack() as started:
        sidecars = [started.enter_context(Sidecar(folder / f"sidecar-{number}")) for number in range(2)]
        instances = [sidecar.url.removeprefix("http://") for sidecar in sidecars]
        feeders = [
            started.enter_context(closing(Feeder(sidecar, instance)))
            for sidecar, instance in zip(sidecars, instances, strict=True)
        ]
        publishing = started.enter_context(closing(Publishing(sidecars[0])))
        prometheus = started.enter_context(Prometheus(folder / "prometheus", instances[0], free_port()))
        prometheus.set_targets("metrics-sidecar", instances[1])
        prometheus.set_targets("trading-app", publishing.instance)
        assert eventually(lambda: prometheus.value('sum(up{job="metrics-sidecar"})') == 2)
        reconcile_seconds(prometheus, folder / "prometheus")
        yield _with_traffic(prometheus, feeders, publishing)


def _with_traffic(prometheus: Prometheus, feeders: list[Feeder], publishing: Publishing) -> World:
    for feeder in feeders:
        feeder.introduce()
    # Six series of each sidecar, scraped often enough that each rate has a sample before the first round.
    assert eventually(lambda: prometheus.value("count(count_over_time(trades_total[1m]) > 2)") == 12)
    assert eventually(lambda: prometheus.value("count_over_time(publisher_trades_total[1m]) > 2") is not None)
    before = _moment(feeders)
    for _ in range(ROUNDS):
        feeders[0].publish(publishing)
        for feeder in feeders:
            feeder.round()
        time.sleep(0.1)
    sent = sum(len(feeder.sent) for feeder in feeders)
    quiet = f"sum(trades_total) == {sent} and sum(rate(trades_total[6s])) == 0"
    assert eventually(lambda: prometheus.value(quiet) == sent)
    assert eventually(lambda: prometheus.value("fleet:trades_missing:increase5m") == 0)
    after = _moment(feeders)
    feeders[1].sidecar.end()
    assert eventually(lambda: prometheus.value("min_over_time(job:sidecars_away:sum[3s])") == 1)
    return World(cache(prometheus.api), feeders, publishing, before, after, time.time())


def _moment(feeders: list[Feeder]) -> Moment:
    return Moment(time.time(), {feeder.instance: feeder.sidecar.samples() for feeder in feeders})


@dataclass(frozen=True)
class Expected:
    """The condition on a series: ``holds`` tests its values, ``what`` describes the condition."""

    what: str
    holds: Callable[[list[float]], bool]
    unit: str = "locale"
    colour: str = "palette-classic"
    text: str = ""

    def problem(self, series: Series) -> str:
        if not self.holds(series.values):
            return f"is {series.values[-3:]}, not {self.what}"
        shown, expected = (series.unit, series.colour, series.text), (self.unit, self.colour, self.text)
        return "" if shown == expected else f"shows {shown}, not {expected}"


type Panels = dict[str, dict[str, Expected]]


def now(value: float, *, within: float = 1e-6, **shown: str) -> Expected:
    """A series whose last value is the value."""
    return Expected(
        f"{value} now", lambda values: math.isclose(values[-1], value, rel_tol=1e-6, abs_tol=within), **shown
    )


def grown(value: float, **shown: str) -> Expected:
    """A total that only grows and ends at the value."""
    return Expected(
        f"grown to {value}",
        lambda values: values == sorted(values) and values[0] < values[-1] and math.isclose(values[-1], value),
        **shown,
    )


def moved(value: float, **shown: str) -> Expected:
    """A series that changes and ends at the value."""
    return Expected(f"moved to {value}", lambda values: values[0] != values[-1] == pytest.approx(value), **shown)


def per_second(total: float, **shown: str) -> Expected:
    """A rate that adds up to about ``total``: scrapes may be early or late."""
    return Expected(
        f"{total} in all, by the second",
        lambda values: math.isclose(sum(values), total, rel_tol=0.25, abs_tol=0.2),
        **shown,
    )


def steady(value: float, **shown: str) -> Expected:
    return Expected(f"{value} all the time", lambda values: values == pytest.approx([value] * len(values)), **shown)


def between(low: float, high: float, **shown: str) -> Expected:
    return Expected(f"more than {low}, up to {high}", lambda values: low < median(values) <= high, **shown)


def total(trades: list[Sent], what: Callable[[Sent], float]) -> float:
    return sum(map(what, trades))


def count(_: Sent) -> float:
    return 1.0


def volume(trade: Sent) -> float:
    return trade.qty


def notional(trade: Sent) -> float:
    return trade.qty * trade.price


def position(trade: Sent) -> float:
    return trade.qty if trade.side == "buy" else -trade.qty


def by_side(
    trades: list[Sent], expected: Callable[..., Expected], what: Callable[[Sent], float]
) -> dict[str, Expected]:
    return {
        side: expected(total([trade for trade in trades if trade.side == side], what), colour=colour)
        for side, colour in SIDES.items()
    }


def by_symbol(trades: list[Sent]) -> dict[str, list[Sent]]:
    symbols = {trade.symbol for trade in trades}
    return {symbol or "no symbol": [trade for trade in trades if trade.symbol == symbol] for symbol in symbols}


def cells(symbol: str, trades: list[Sent]) -> dict[str, Expected]:
    """A row of the table."""
    units, turnover = total(trades, volume), total(trades, notional)
    row = {
        "Position": now(net := total(trades, position), colour=sign(net)),
        "Volume": now(units, colour="text"),
        "Turnover": now(turnover, colour="text"),
        "Trades": now(len(trades), colour="text"),
    }
    if turnover:
        row["Average price"] = now(turnover / units, colour="text")
    return {f"{symbol} {column}": expected for column, expected in row.items()}


def sign(net: float) -> str:
    return "green" if net > 0 else "red" if net < 0 else "text"


def expected_trading(world: World, *, instance: str = "", symbol: str = "") -> Panels:
    """The panels of the first dashboard, for all or for a chosen instance or symbol."""
    feeders = [feeder for feeder in world.feeders if instance in {"", feeder.instance}]
    trades = [trade for feeder in feeders for trade in feeder.sent if symbol in {"", trade.symbol}]
    measured = [trade for trade in trades if trade.measured]
    symbols, priced = by_symbol(measured), by_symbol([trade for trade in measured if trade.price])
    net = total(trades, position)
    last = max(feeder.last_ts for feeder in feeders)
    at, ago = {"unit": "dateTimeAsLocalNoDateIfToday", "colour": "text"}, {"unit": "dtdhms", "colour": "text"}
    return {
        "Trades": by_side(trades, now, count),
        "Volume": by_side(trades, now, volume),
        "Turnover": by_side(trades, partial(now, unit="short"), notional),
        "Net position": {"net position": now(net, colour=sign(net))},
        "Average size": {"average size": now(total(trades, volume) / len(trades), colour="text")},
        "Last trade": {"at": now(last * 1000, within=1.0, **at), "ago": now(world.after.at - last, within=0.01, **ago)},
        "Completeness": {"away": now(0, unit="suffix: away", colour="green", text="complete")},
        "Symbols": {
            name: cell for symbol, those in by_symbol(trades).items() for name, cell in cells(symbol, those).items()
        },
        "Position by symbol": {name: moved(total(those, position)) for name, those in by_symbol(trades).items()},
        "Average price by symbol": {
            name: steady(total(those, notional) / total(those, volume)) for name, those in priced.items()
        },
        "Volume per second by symbol": {name: per_second(total(those, volume)) for name, those in symbols.items()},
        "Turnover per second by symbol": {
            name: per_second(total(those, notional), unit="short") for name, those in symbols.items()
        },
        "Trades per second": by_side(measured, per_second, count),
        "Volume per second": by_side(measured, per_second, volume),
        "Turnover per second": by_side(measured, partial(per_second, unit="short"), notional),
        "Trades over time": by_side(trades, grown, count),
        "Volume over time": by_side(trades, grown, volume),
        "Turnover over time": by_side(trades, partial(grown, unit="short"), notional),
        "Net position over time": {"net position": moved(net, colour="blue")},
        "Average size over time": {"buy": steady(2.0, colour="green"), "sell": steady(5.0, colour="red")},
    }


def expected_pipeline(world: World, *, instance: str = "") -> Panels:
    """The panels of the second dashboard, for all or for a chosen instance."""
    instances = [feeder.instance for feeder in world.feeders if instance in {"", feeder.instance}]
    rounds = ROUNDS * len(instances)
    trades = [trade for feeder in world.feeders if feeder.instance in instances for trade in feeder.sent]

    def of_each(expected: Callable[..., Expected], metric: str, **shown: Any) -> dict[str, Expected]:
        return {name: expected(world.after.samples[name][metric], **shown) for name in instances}

    def increases(metric: str) -> dict[str, float]:
        return {name: world.after.samples[name][metric] - world.before.samples[name][metric] for name in instances}

    started = {name: world.after.samples[name]["process_start_time_seconds"] for name in instances}
    rejected = dict.fromkeys(("too_large", "not_utf8", "not_object", "missing_field", "invalid_field"), 0) | {
        "not_json": rounds,
        "unknown_type": 2 * rounds,
    }
    seconds = {"unit": "s"}
    return {
        "Sidecars": {name: now(1, unit="bool_on_off", colour="green", text="up") for name in instances},
        "Running for": {
            name: now(world.after.at - start, within=0.01, unit="dtdhms", colour="text")
            for name, start in started.items()
        },
        "Alerts": {"firing": Expected("three of each sidecar", lambda values: values[0] >= 6, colour="red")},
        "Delivery p99": {"p99": between(10, 30, colour="red", **seconds)},
        "Received": {"received": now(len(trades) + 7 * rounds, colour="text")},
        "Rejected": {"rejected": now(3 * rounds, colour="orange")},
        "Duplicates": {"duplicates": now(rounds, colour="text")},
        "Lost": {"lost": now(3 * rounds, colour="red")},
        "Messages received per second": {
            name: per_second(received) for name, received in increases("sidecar_messages_received_total").items()
        },
        "Messages rejected per second": {reason: per_second(number) for reason, number in rejected.items()},
        "Trades not counted per second": {
            "duplicate": per_second(rounds, colour="blue"),
            "out of sequence": per_second(2 * rounds, colour="yellow"),
            "lost": per_second(3 * rounds, colour="red"),
        },
        "Delivery latency": {
            "p50": between(0, 0.1, colour="light-blue", **seconds),
            "p90": between(2.5, 5.0, colour="blue", **seconds),
            "p99": between(10, 30, colour="purple", **seconds),
        },
        "Delivery latency of all trades": delays(len(instances)),
        "Commit time": {
            "p50": between(0, 0.5, colour="light-blue", **seconds),
            "p99": between(0, 1.0, colour="purple", **seconds),
        },
        "Commits per second": {
            "committed": per_second(sum(increases("sidecar_commit_seconds_count").values()), colour="blue"),
            "failed": steady(0, colour="red"),
        },
        "Scrape duration": {name: between(0, 1.0, **seconds) for name in instances},
        "CPU": {
            name: per_second(used, unit="percentunit") for name, used in increases("process_cpu_seconds_total").items()
        },
        "Memory": of_each(now, "process_resident_memory_bytes", within=16e6, unit="bytes"),
        "Sessions": of_each(grown, "sidecar_sessions"),
        "Published": {"published": now(ROUNDS, colour="text")},
        "Waiting": {"waiting": now(0, colour="text")},
        "Dropped": {"dropped": now(0, colour="green")},
        "Missing": {"missing": now(0, colour="green")},
        "Published and counted per second": {
            "published": per_second(ROUNDS, colour="blue"),
            # And one tracked trade of each round.
            "counted": per_second(ROUNDS + ROUNDS * len(world.feeders), colour="green"),
        },
        "Waiting by publisher": {
            world.publishing.instance: Expected("few", lambda values: 0 <= min(values) <= max(values))
        },
        "Journal size": {
            world.publishing.instance: Expected("one segment", lambda values: max(values) == 4 << 20, unit="bytes")
        },
    }


def delays(sidecars: int) -> dict[str, Expected]:
    """The rows of the heat map: trades of three ages, each in its bucket only."""
    old = {"5.0": 7 * ROUNDS // 4, "30.0": ROUNDS // 4}
    fresh = 8 * ROUNDS * sidecars
    rows = {bound: per_second(sidecars * number) for bound, number in old.items()}
    rows |= {bound: steady(0) for bound in ("10.0", "60.0", "300.0", "+Inf")}
    for bound in "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5":
        rows[bound] = Expected(f"some of {fresh} trades", lambda values: 0 <= sum(values) < 1.25 * fresh)
    return {bound: replace(row, unit="s", colour="") for bound, row in rows.items()}


def restarts(world: World) -> set[tuple[str, int]]:
    started = {name: samples["process_start_time_seconds"] for name, samples in world.after.samples.items()}
    return {(f"Sidecar {name} started", round(at * 1000)) for name, at in started.items()}


def problems(view: View, expected: Panels) -> list[str]:
    """The differences between the dashboard and what is expected."""
    try:
        panels = view.panels()
        shown = {title: view.shown(panel) for title, panel in panels.items()}
    except Ambiguous as ambiguous:
        return [str(ambiguous)]
    if shown.keys() != expected.keys():
        return [f"panels that differ: {shown.keys() ^ expected.keys()}"]
    found = []
    for title, series in shown.items():
        if series.keys() != expected[title].keys():
            found.append(f"{title} shows {sorted(series)}, not {sorted(expected[title])}")
            continue
        wrong = {name: expected[title][name].problem(each) for name, each in series.items()}
        found += [f"{title}: {name} {problem}" for name, problem in wrong.items() if problem]
    return found


def unconventional(dashboard: Json) -> list[str]:
    """Mistakes that happen to show the right values for this traffic."""
    found = []
    for panel in dashboard["panels"]:
        for query in panel.get("targets", []):
            windows = re.findall(r"(?:rate|increase|delta)\([^)]*\[(.*?)\]", query["expr"])
            if set(windows) - {"$__rate_interval"}:
                found.append(f"{panel['title']} has a window of its own")
            if not set(re.findall(r"\$(\w+)", query["expr"])) >= {"job", "instance"} and not OF_ALL.search(
                query["expr"]
            ):
                found.append(f"{panel['title']} does not select the chosen sidecars")
        if panel["type"] == "stat" and panel["options"]["reduceOptions"]["calcs"] != ["lastNotNull"]:
            found.append(f"{panel['title']} does not show the last value")
    return found


EXPECTED: dict[str, Callable[..., Panels]] = {
    "trading-telemetry": expected_trading,
    "telemetry-pipeline": expected_pipeline,
}


def all_problems(world: World, uid: str, dashboard: Json) -> list[str]:
    view = world.view(dashboard)
    marks = [] if view.annotations() == restarts(world) else [f"restarts are {view.annotations()}"]
    return [*unconventional(dashboard), *marks, *problems(view, EXPECTED[uid](world))]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_shows_the_traffic(world: World, uid: str) -> None:
    assert all_problems(world, uid, DASHBOARDS[uid]) == []


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_shows_the_chosen_sidecar(world: World, uid: str) -> None:
    for feeder in world.feeders:
        view = world.view(DASHBOARDS[uid], instance=feeder.instance)
        expected = EXPECTED[uid](world, instance=feeder.instance)
        assert [problem for problem in problems(view, expected) if not problem.startswith("Last trade")] == []


@pytest.mark.parametrize("symbol", ["BTC-USD", "ETH-USD"])
def test_a_dashboard_shows_the_chosen_symbol(world: World, symbol: str) -> None:
    view = world.view(DASHBOARDS["trading-telemetry"], symbol=symbol)
    assert problems(view, expected_trading(world, symbol=symbol)) == []


def test_totals_remain_while_a_sidecar_is_away(world: World) -> None:
    """They remain even in a window in which the sidecar never answered."""
    away = world.feeders[1].instance
    shown = {
        uid: {title: view.shown(panel) for title, panel in view.panels().items()}
        for uid, view in ((uid, world.view_while_away(dashboard)) for uid, dashboard in DASHBOARDS.items())
    }
    traded, pipeline = shown["trading-telemetry"], shown["telemetry-pipeline"]
    expected = expected_trading(world) | expected_pipeline(world)
    held = ("Trades", "Volume", "Turnover", "Net position", "Average size", "Symbols")
    for title in (*held, "Received", "Rejected", "Duplicates", "Lost"):
        series = {**traded, **pipeline}[title]
        assert {
            name: each.problem(series[name]) for name, each in expected[title].items() if each.problem(series[name])
        } == {}
    assert expected["Last trade"]["at"].problem(traded["Last trade"]["at"]) == ""
    assert traded["Completeness"]["away"].values == [1.0]
    assert traded["Completeness"]["away"].colour == "orange"
    assert pipeline["Sidecars"][away].text == "down"
    assert pipeline["Sidecars"][away].colour == "red"
    assert pipeline["Running for"].keys() == {world.feeders[0].instance}


type Mutation = Callable[[Json], object]


def the(dashboard: Json, title: str) -> Json:
    (panel,) = (panel for panel in dashboard["panels"] if panel["title"] == title)
    found: Json = panel
    return found


def asks(title: str, old: str, new: str) -> Mutation:
    """Replace a part of the panel's queries."""

    def mutate(dashboard: Json) -> None:
        for query in the(dashboard, title)["targets"]:
            query["expr"] = query["expr"].replace(old, new)

    return mutate


def names(title: str, legend: str) -> Mutation:
    return lambda dashboard: [query.update(legendFormat=legend) for query in the(dashboard, title)["targets"]]


def shows(title: str, **options: Any) -> Mutation:
    return lambda dashboard: the(dashboard, title)["fieldConfig"]["defaults"].update(options)


def folded(dashboard: Json) -> None:
    """Hide the panels of the first row until the row is opened."""
    first, second, *_ = (number for number, panel in enumerate(dashboard["panels"]) if panel["type"] == "row")
    dashboard["panels"][first].update(collapsed=True, panels=dashboard["panels"][first + 1 : second])
    del dashboard["panels"][first + 1 : second]


TRADED, PIPELINE = "trading-telemetry", "telemetry-pipeline"
SWAPPED = [{"type": "value", "options": {"0": {"text": "up"}, "1": {"text": "down"}}}]
MUTATIONS: dict[str, tuple[str, Mutation]] = {
    "trades are volume": (TRADED, asks("Trades", "trades:last", "volume:last")),
    "volume is turnover": (TRADED, asks("Volume", "volume:last", "notional:last")),
    "a stat is the smallest": (
        TRADED,
        lambda dashboard: the(dashboard, "Volume")["options"]["reduceOptions"].update(calcs=["min"]),
    ),
    "a legend without the colours": (TRADED, names("Trades", "{{side}} trades")),
    "a legend of all labels": (TRADED, names("Trades per second", "__auto")),
    "buy and sell in one colour": (
        TRADED,
        lambda dashboard: the(dashboard, "Trades")["fieldConfig"].update(overrides=[]),
    ),
    "an increase per second": (TRADED, asks("Trades per second", "rate(", "increase(")),
    "a total per second": (TRADED, asks("Volume per second", "rate(volume_total", "max_over_time(volume_total")),
    "a panel is gone": (TRADED, lambda dashboard: dashboard["panels"].remove(the(dashboard, "Trades"))),
    "a row is folded": (TRADED, folded),
    "a query is hidden": (TRADED, lambda dashboard: the(dashboard, "Trades")["targets"][0].update(hide=True)),
    "a series is hidden": (TRADED, shows("Trades per second", custom={"hideFrom": {"viz": True}})),
    "two panels of one title": (TRADED, lambda dashboard: the(dashboard, "Trades over time").update(title="Trades")),
    "the position is negated": (TRADED, asks("Net position", "sum(", "-sum(")),
    "the position over time is negated": (TRADED, asks("Net position over time", "sum(", "-sum(")),
    "the position by symbol is negated": (TRADED, asks("Position by symbol", "sum by", "-sum by")),
    "only trades with a symbol": (
        TRADED,
        lambda dashboard: dashboard["templating"]["list"][2].update(allValue=".+"),
    ),
    "symbols without a name": (TRADED, asks("Position by symbol", '"no symbol"', '""')),
    "a price upside down": (TRADED, asks("Average price by symbol", "notional_total", "trades_total")),
    "a table with its columns swapped": (
        TRADED,
        lambda dashboard: the(dashboard, "Symbols")["transformations"][1]["options"]["renameByName"].update(
            {"Value #B": "Turnover", "Value #C": "Volume"}
        ),
    ),
    "a window of its own": (TRADED, asks("Trades per second", "$__rate_interval", "4s")),
    "every sidecar, whichever is chosen": (TRADED, asks("Trades", 'instance=~"$instance", ', "")),
    "up and down swapped": (PIPELINE, shows("Sidecars", mappings=SWAPPED)),
    "up is red": (PIPELINE, shows("Sidecars", thresholds={"steps": [{"color": "red", "value": None}]})),
    "a raw counter as a rate": (
        PIPELINE,
        asks("Messages rejected per second", "rate(", "last_over_time("),
    ),
    "quantiles of one name": (PIPELINE, names("Delivery latency", "p99")),
    "one quantile under the name of another": (PIPELINE, asks("Delivery latency", "0.5", "0.99")),
    "a heat map of cumulative buckets": (
        PIPELINE,
        lambda dashboard: the(dashboard, "Delivery latency of all trades")["targets"][0].update(format="time_series"),
    ),
    "a heat map in bytes": (
        PIPELINE,
        lambda dashboard: the(dashboard, "Delivery latency of all trades")["options"]["yAxis"].update(unit="bytes"),
    ),
    "processor time in bytes": (PIPELINE, shows("CPU", unit="bytes")),
    "processor time of all programs": (PIPELINE, asks("CPU", 'job=~"$job", instance=~"$instance"', "")),
    "untracked trades are counted against publishers": (
        PIPELINE,
        asks("Published and counted per second", "sidecar_trades_tracked_total", "trades_total"),
    ),
    "restarts of any job": (
        PIPELINE,
        lambda dashboard: dashboard["annotations"]["list"][1].update(expr="process_start_time_seconds * 1000"),
    ),
    "restarts of nobody": (
        TRADED,
        lambda dashboard: dashboard["annotations"]["list"][1].update(titleFormat="A sidecar started"),
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mistake_in_a_dashboard_is_found(world: World, mutation: str) -> None:
    uid, mutate = MUTATIONS[mutation]
    mutate(dashboard := copy.deepcopy(DASHBOARDS[uid]))
    assert dashboard != DASHBOARDS[uid]
    assert all_problems(world, uid, dashboard) != []


def test_the_dashboards_are_provisioned_with_their_data_source() -> None:
    """Grafana finds the dashboards and the data source at their paths in the containers."""
    grafana = yaml.safe_load((ROOT / "infra/docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/dashboards.yml").read_text())["providers"][0]
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (home.parent, home.stem) == (Path(provider["options"]["path"]), "trading-telemetry")
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert (source["type"], source["uid"], source["url"]) == ("prometheus", "prometheus", "http://prometheus:9090")
    scrape_interval = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_interval == "1s"


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_is_complete(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    assert (dashboard["uid"], dashboard["id"], dashboard["refresh"]) == (uid, None, "5s")
    # The version that Grafana 9.4 writes; later versions of Grafana read it too.
    assert dashboard["schemaVersion"] <= 38
    assert {link["url"] for link in dashboard["links"]} == {f"/d/{other}" for other in DASHBOARDS if other != uid}
    assert all(link["includeVars"] and link["keepTime"] for link in dashboard["links"])
    assert [variable["name"] for variable in dashboard["templating"]["list"]][:2] == ["job", "instance"]
    assert all(variable["current"]["value"] == ["$__all"] for variable in dashboard["templating"]["list"])
    (restarts,) = (annotation for annotation in dashboard["annotations"]["list"] if "expr" in annotation)
    assert restarts["useValueForTime"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert dashboard["panels"][0]["type"] == "row"


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_the_panels_fill_the_grid_from_left_to_right_and_top_to_bottom(uid: str) -> None:
    places = [panel["gridPos"] for panel in DASHBOARDS[uid]["panels"]]
    assert places == sorted(places, key=lambda place: (place["y"], place["x"]))
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert set(cells) == set(itertools.product(range(24), range(max(y for _, y in cells) + 1))), "a hole in the grid"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_description(panel: Json) -> None:
    assert panel["type"] in {"stat", "timeseries", "heatmap", "table"}, "a panel that Grafana 9.4 may not have"
    assert panel["description"].endswith(".")
    sources = (panel["datasource"], *(query["datasource"] for query in panel["targets"]))
    assert {source["uid"] for source in sources} == {"prometheus"}


@pytest.mark.parametrize(
    "panel", [panel for panel in PANELS if re.search("latency|Commit time|Average price", str(panel.id))]
)
def test_values_of_several_magnitudes_have_a_logarithmic_scale(panel: Json) -> None:
    if panel["type"] == "timeseries":
        assert panel["fieldConfig"]["defaults"]["custom"]["scaleDistribution"] == {"type": "log", "log": 10}
        assert "min" not in panel["fieldConfig"]["defaults"], "0 has no logarithm"
