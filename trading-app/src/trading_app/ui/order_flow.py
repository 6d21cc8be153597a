"""The order flow: simulated trades in the background, and a burst of them."""

import streamlit as st

from trading_app.ui.desk import Desk
from trading_app.ui.flow import Mix

_RATES = [1, 5, 10, 50, 100, 500, 1000]
_BURST = 1000
_RATE = 10
_BUYS = 50
_RATE_LABEL = "Trades a second"
_BUYS_LABEL = "Buys, in percent"


def order_flow(desk: Desk) -> None:
    running = desk.flow.mix
    with st.container(border=True):
        st.markdown(f"**Simulated flow** {':green-badge[running]' if running else ':gray-badge[stopped]'}")
        _sliders(running)
        with st.container(horizontal=True):
            if running:
                st.button("Stop", icon=":material/stop:", on_click=desk.flow.stop)
            else:
                st.button("Start", icon=":material/play_arrow:", on_click=_start, args=(desk,))
            st.button(f"Burst of {_BURST:,}", icon=":material/bolt:", on_click=_burst, args=(desk,))
        if desk.flow.problem:
            st.error(f"The flow ended: {desk.flow.problem}.")


def _sliders(running: Mix | None) -> None:
    """While a flow runs, which is one for all pages, they show it and stand still."""
    left, right = st.columns(2)
    if running:
        left.select_slider(_RATE_LABEL, _RATES, value=running.rate, disabled=True, key="running rate")
        right.slider(_BUYS_LABEL, 0, 100, value=round(100 * running.buys), disabled=True, key="running buys")
    else:
        left.select_slider(_RATE_LABEL, _RATES, value=_RATE, key="rate", persist_state="page")
        right.slider(_BUYS_LABEL, 0, 100, value=_BUYS, step=5, key="buys", persist_state="page")


def _start(desk: Desk) -> None:
    desk.flow.start(_mix())


def _burst(desk: Desk) -> None:
    desk.flow.burst(_BURST, (desk.flow.mix or _mix()).buys)


def _mix() -> Mix:
    """What the sliders say, at the time of the click."""
    # While a flow runs its sliders are not drawn, and a page opened since then has not drawn them yet.
    return Mix(st.session_state.get("rate", _RATE), st.session_state.get("buys", _BUYS) / 100)
