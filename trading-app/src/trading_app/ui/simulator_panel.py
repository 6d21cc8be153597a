"""The order flow: simulated trades in the background, and a burst of them."""

import streamlit as st

from trading_app.messages import check_symbol
from trading_app.ui.desk import Desk
from trading_app.ui.formatting import duration, number, per_second
from trading_app.ui.numbers import NONE
from trading_app.ui.simulator import FlowSettings
from trading_app.ui.ticket import SYMBOLS

_RATES = [1, 10, 100, 1_000, 10_000, 50_000, 100_000]
_BURSTS = [100, 1_000, 10_000, 100_000]
_BUYS = range(0, 101, 10)
_RATE, _HALF, _BURST = 10, 50, 1_000


def draw_simulator(desk: Desk) -> None:
    running = desk.flow
    state = f":green-badge[{per_second(running.rate)}]" if running else ":gray-badge[stopped]"
    with st.expander(f"**Order flow** {state}", key="simulator", expanded=True):
        _draw_settings(running)
        with st.container(horizontal=True, gap="small", key="flow-buttons"):
            label, icon = ("Stop", ":material/stop:") if running else ("Start", ":material/play_arrow:")
            switched = st.button(label, icon=icon, key=label.lower())
            burst = st.button("Burst", icon=":material/bolt:", key="send-burst")
        _draw_load(desk)
    if switched or burst:
        _act(desk, running, burst=burst)


def _act(desk: Desk, running: FlowSettings | None, *, burst: bool) -> None:
    settings = running or _settings()
    if not settings:
        return
    if burst:
        desk.burst(st.session_state.get("burst", _BURST), settings)
    elif running:
        desk.stop_flow()
    else:
        desk.start_flow(settings)
    st.rerun()  # While it works, this is drawn every second.


def _draw_settings(running: FlowSettings | None) -> None:
    """While a flow runs, which is one for all pages, they show it and stand still."""
    if running:
        symbols = list(running.symbols)
        st.multiselect("Symbols", symbols, default=symbols, disabled=True, key="running-symbols", placeholder="none")
    else:
        st.multiselect(
            "Symbols", SYMBOLS, default=SYMBOLS, key="symbols", accept_new_options=True, placeholder="none",
            persist_state="page",
        )  # fmt: skip
    rate, buys, burst = st.columns(3, gap="small", wrap=False)
    if running:
        rate.selectbox("Per second", [running.rate], format_func=number, disabled=True, key="running-rate")
        buys.selectbox("Buys", [running.buys], format_func=_percent, disabled=True, key="running-buys")
    else:
        rate.selectbox(
            "Per second", _RATES, index=_RATES.index(_RATE), format_func=number, key="rate", persist_state="page"
        )
        buys.selectbox(
            "Buys", _BUYS, index=_BUYS.index(_HALF), format_func=lambda part: f"{part} %", key="buys",
            persist_state="page",
        )  # fmt: skip
    burst.selectbox("Burst of", _BURSTS, index=_BURSTS.index(_BURST), format_func=number, key="burst")


def _draw_load(desk: Desk) -> None:
    """What it does right now, and what that costs the publisher."""
    load = desk.load
    calls, seconds = (per_second(load.calls), duration(load.seconds)) if load else (NONE, NONE)
    left, right = st.columns(2, gap="small", wrap=False)
    left.metric("Calls of publish()", calls, help="Trades that the simulator published in the last second.")
    right.metric("Time per call", seconds, help="How long a call of publish() held up the simulator, at the median.")
    if desk.flow_problem:
        st.error(f"The flow ended: {desk.flow_problem}.")


def _settings() -> FlowSettings | None:
    """What the fields say at the time of the click; None where a symbol is none."""
    # While a flow runs its fields are not drawn, and a page opened since then has not drawn them yet.
    state = st.session_state
    try:
        symbols = tuple(check_symbol(symbol) for symbol in state.get("symbols", SYMBOLS))
    except ValueError as error:
        st.toast(f"Nothing was sent: {error}.", icon=":material/error:", duration="long")
        return None
    return FlowSettings(float(state.get("rate", _RATE)), state.get("buys", _HALF) / 100, symbols)


def _percent(part: float) -> str:
    return f"{number(100 * part)} %"
