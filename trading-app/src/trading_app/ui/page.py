"""The page: state of the loop, ticket, tape, numbers, charts, positions, and order flow."""

from pathlib import Path

import streamlit as st

from trading_app.ui.chart import draw_charts
from trading_app.ui.desk import Desk, shared_desk
from trading_app.ui.numbers import draw_numbers
from trading_app.ui.positions import draw_positions
from trading_app.ui.simulator_panel import draw_simulator
from trading_app.ui.status import draw_status
from trading_app.ui.tape import draw_tape
from trading_app.ui.ticket import current_symbol, draw_ticket

_EACH_SECOND = 1.0
# The time axis moves on even when nothing happens.
_QUIET = 15.0


@st.fragment(run_every=_EACH_SECOND)
def status(desk: Desk) -> None:
    """The state of the loop. When activity begins or ends, on this page or another, it redraws the page."""
    draw_status(desk, desk.look(current_symbol(desk)))
    if desk.activity != st.session_state["activity"]:
        st.rerun()


def tape(desk: Desk) -> None:
    draw_tape(desk, desk.look(current_symbol(desk)))


def market(desk: Desk) -> None:
    symbol = current_symbol(desk)
    snapshot = desk.look(symbol)
    draw_numbers(snapshot)
    draw_charts(snapshot, symbol)
    draw_positions(snapshot)


def page(desk: Desk) -> None:
    # The first look wakes the poller, which is activity: without it the first run would be drawn twice.
    desk.look(current_symbol(desk))
    activity = st.session_state["activity"] = desk.activity
    _, simulator_works, anything_changes = activity
    status(desk)
    with st.container(key="desk"):
        with st.container(key="trading"):
            st.fragment(draw_ticket)(desk)
            with st.container(key="tape", gap="small"):
                st.fragment(tape, run_every=_EACH_SECOND if anything_changes else None)(desk)
        with st.container(key="market", gap="small"):
            st.fragment(market, run_every=_EACH_SECOND if anything_changes else _QUIET)(desk)
        with st.container(key="flow"):
            st.fragment(draw_simulator, run_every=_EACH_SECOND if simulator_works else None)(desk)


st.set_page_config(page_title="trading-telemetry", page_icon="📈", layout="wide")
st.html(Path(__file__).with_name("page.css"))
page(shared_desk())
