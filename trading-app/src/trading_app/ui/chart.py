"""The last minutes: trades a second by side, and the position."""

from typing import Any

import streamlit as st

from trading_app.ui.watch import CHART_SECONDS, View

_MINUTES = CHART_SECONDS / 60
_AGO = {
    "field": "minutes",
    "type": "quantitative",
    "scale": {"domain": [-_MINUTES, 0], "nice": False},
    "axis": {
        "title": None,
        "grid": False,
        "tickCount": 5,
        "labelExpr": "datum.value ? -datum.value + ' min ago' : 'now'",
    },
}
# In this order they take the colours of the theme.
_SERIES = {"domain": ["buy", "sell", "position"]}


def spec(title: str, *series: str, interpolate: str) -> dict[str, Any]:
    """A Vega-Lite line chart of some columns over the minutes."""
    return {
        "height": 150,
        "title": {"text": title, "fontSize": 14, "anchor": "start"},
        "transform": [{"fold": list(series), "as": ["series", "value"]}],
        "mark": {"type": "line", "clip": True, "interpolate": interpolate},
        "encoding": {
            "x": _AGO,
            "y": {"field": "value", "type": "quantitative", "axis": {"title": None, "tickCount": 4}},
            "color": {"field": "series", "type": "nominal", "scale": _SERIES, "legend": None},
        },
    }


# A rate is that of the time before it, which is long where nobody looked.
_RATES = spec("Trades a second", "buy", "sell", interpolate="step-before")
_POSITION = spec("Net position", "position", interpolate="linear")


def columns(view: View) -> dict[str, list[float]]:
    """What the charts show, over the minutes before the view."""
    return {
        "minutes": [(point.at - view.asked_at) / 60 for point in view.points],
        "buy": [point.rates["buy"] for point in view.points],
        "sell": [point.rates["sell"] for point in view.points],
        "position": [point.position for point in view.points],
    }


def chart(view: View) -> None:
    data = columns(view)
    st.vega_lite_chart(data, _RATES, alt="Trades a second by side in the last five minutes")
    st.vega_lite_chart(data, _POSITION, alt="Net position in the last five minutes")
    why = f", as Prometheus is away ({view.prometheus})" if view.prometheus else ""
    st.markdown(f":small[As seen by {view.source}{why}.]")
