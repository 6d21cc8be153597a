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

# The same for each part at all times: Streamlit's client can crash when a redraw changes the interval of a fragment.
_EACH_SECOND = 1.0


@st.fragment(run_every=_EACH_SECOND)
def status(desk: Desk) -> None:
    draw_status(desk, desk.look(current_symbol(desk)))


@st.fragment(run_every=_EACH_SECOND)
def tape(desk: Desk) -> None:
    draw_tape(desk, desk.look(current_symbol(desk)))


@st.fragment(run_every=_EACH_SECOND)
def market(desk: Desk) -> None:
    symbol = current_symbol(desk)
    snapshot = desk.look(symbol)
    draw_numbers(snapshot)
    draw_charts(snapshot, symbol)
    draw_positions(snapshot)


def page(desk: Desk) -> None:
    status(desk)
    with st.container(key="desk"):
        with st.container(key="trading"):
            st.fragment(draw_ticket)(desk)
            with st.container(key="tape", gap="small"):
                tape(desk)
        with st.container(key="market", gap="small"):
            market(desk)
        with st.container(key="flow"):
            st.fragment(draw_simulator, run_every=_EACH_SECOND)(desk)


st.set_page_config(page_title="trading-telemetry", page_icon="📈", layout="wide")
st.html(Path(__file__).with_name("page.css"))
page(shared_desk())
