"""Charts of the last minutes: trades per second by side, position and price of a symbol."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import streamlit as st

from trading_app.messages import SIDES
from trading_app.ui.history import Point, Value
from trading_app.ui.poller import Snapshot

type Spec = dict[str, Any]

_DATA = "points"
# The theme's colours are assigned in this order.
_SERIES = {"domain": ["buy", "sell", "value"]}
_TIME: Spec = {
    "field": "at",
    "type": "temporal",
    "axis": {"title": None, "grid": False, "format": "%H:%M:%S", "tickCount": 5, "labelOverlap": True},
}
# Linear below 1, logarithmic above, so that a burst does not flatten the rest.
_MAGNITUDE = "abs(datum.value) < 1 ? abs(datum.value) : pow(10, abs(datum.value) - 1)"


def _hover(**fields: str) -> Spec:
    """A rule at the point nearest to the pointer, with its values in a tooltip."""
    tooltip = [
        {"field": name, "type": "quantitative", "title": title, "format": ",.8~g"} for name, title in fields.items()
    ]
    return {
        "params": [
            {"name": "hover", "select": {"type": "point", "nearest": True, "on": "pointermove", "clear": "pointerout"}}
        ],
        "mark": {"type": "rule", "strokeWidth": 1, "aria": False},
        "encoding": {
            "x": _TIME,
            "opacity": {"condition": {"param": "hover", "empty": False, "value": 0.5}, "value": 0},
            "tooltip": [{"field": "at", "type": "temporal", "title": "Time", "format": "%H:%M:%S"}, *tooltip],
        },
    }


def _chart(height: int, *layers: Spec) -> Spec:
    return {"height": height, "data": {"name": _DATA}, "layer": list(layers)}


# A rate covers the time before its point; a price or a position holds until the next point.
_MAGNITUDES: Spec = {
    "field": "magnitude",
    "type": "quantitative",
    "stack": None,
    "scale": {"domain": {"unionWith": [-2, 2]}, "nice": False},
    "axis": {
        "title": None,
        "tickCount": 5,
        "tickMinStep": 1,
        "labelOverlap": False,
        "labelExpr": f"format({_MAGNITUDE}, ',~g')",
    },
}
_RATES = _chart(
    180,
    {
        "mark": {"type": "area", "clip": True, "interpolate": "step-before", "opacity": 0.7},
        "encoding": {
            "x": _TIME,
            "y": _MAGNITUDES,
            "color": {"field": "side", "type": "nominal", "scale": _SERIES, "legend": None},
        },
    },
    {**_hover(buy="Buys per second", sell="Sells per second"), "transform": [{"filter": "datum.side == 'buy'"}]},
)


def _line(name: str, **scale: Any) -> Spec:
    axis = {"title": None, "tickCount": 4, "format": ",.8~g"}
    return _chart(
        150,
        {
            "mark": {"type": "line", "clip": True, "interpolate": "step-after"},
            "encoding": {
                "x": _TIME,
                "y": {"field": "value", "type": "quantitative", "axis": axis, "scale": scale},
                "color": {"datum": "value", "scale": _SERIES, "legend": None},
            },
        },
        _hover(value=name),
    )


_POSITION = _line("Position", domain={"unionWith": [0]})
_PRICE = _line("Price", zero=False)


def rates_table(points: Sequence[Point], now: float) -> pa.Table:
    """Rates over time. Without points yet, ten seconds of zeros, so that the chart has axes."""
    shown = points or [Point(now - 10, {"buy": 0.0, "sell": 0.0}), Point(now, {"buy": 0.0, "sell": 0.0})]
    buys, sells = ([point.rates[side] for point in shown] for side in SIDES)
    return _table(
        [point.at for point in shown] * 2,
        magnitude=[_lin_log(rate) for rate in buys] + [-_lin_log(rate) for rate in sells],
        buy=buys * 2,
        sell=sells * 2,
    ).append_column("side", pa.array([side for side in SIDES for _ in shown], pa.string()))


def values_table(values: Sequence[Value]) -> pa.Table:
    """A position or a price over time."""
    return _table([value.at for value in values], value=[round(value.value, 8) for value in values])


def _table(times: list[float], **columns: list[float]) -> pa.Table:
    at = pa.array([round(at * 1000) for at in times], pa.timestamp("ms", tz="UTC"))
    return pa.table({"at": at, **{name: pa.array(values, pa.float64()) for name, values in columns.items()}})


def _lin_log(rate: float) -> float:
    return rate if rate < 1 else 1 + math.log10(rate)


def draw_charts(snapshot: Snapshot, symbol: str) -> None:
    with st.container(key="rates-chart", gap="small"):
        st.markdown("**Trades per second** :small[buys above, sells below]")
        _draw(_RATES, rates_table(snapshot.points, snapshot.asked_at), "Trades per second by side over time")
    named = symbol or "trades without a symbol"
    position, price = st.columns(2, gap="medium")
    with position.container(key="position-chart", gap="small"):
        st.markdown(f"**Position** :small[{named}]")
        _draw_values(_POSITION, snapshot.positions.get(symbol, []), "position", f"Position in {named} over time")
    with price.container(key="price-chart", gap="small"):
        st.markdown(f"**Last price** :small[{named}]")
        _draw_values(_PRICE, snapshot.prices.get(symbol, []), "price", f"Last price of {named} over time")
    st.markdown(f":small[{source(snapshot)}]")


def source(snapshot: Snapshot) -> str:
    """Where the data of the charts come from."""
    if snapshot.source == "Prometheus":
        return "Source: Prometheus; prices: the sidecar's last trades, as seen by this page."
    why = f" Prometheus is not running ({snapshot.prometheus})." if snapshot.prometheus else ""
    return f"Source: the sidecar, as seen by this page.{why}"


def _draw_values(spec: Spec, values: Sequence[Value], name: str, alt: str) -> None:
    if values:
        _draw(spec, values_table(values), alt)
    else:
        st.markdown(f":small[No {name} yet.]")


def _draw(spec: Spec, data: pa.Table, alt: str) -> None:
    st.vega_lite_chart({**spec, "datasets": {_DATA: data}}, alt=alt)
