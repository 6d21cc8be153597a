"""The order flow: simulated trades in the background, and bursts."""

import streamlit as st

from trading_app.messages import check_symbol
from trading_app.ui.clicks import once
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
        # Callbacks: what follows a button in the script does not run if a rerun comes first. One key: Streamlit shows
        # two buttons for a moment when one takes the place of the other.
        with st.container(horizontal=True, gap="small", key="flow-buttons"):
            if running:
                st.button("Stop", icon=":material/stop:", key="switch", on_click=once, args=("switch", desk.stop_flow))
            else:
                st.button(
                    "Start", icon=":material/play_arrow:", key="switch", on_click=once, args=("switch", _start, desk)
                )
            st.button("Burst", icon=":material/bolt:", key="send-burst", on_click=once, args=("burst", _burst, desk))
        _draw_load(desk)


def _start(desk: Desk) -> None:
    if settings := _settings():
        desk.start_flow(settings)


def _burst(desk: Desk) -> None:
    if settings := _settings():
        desk.burst(st.session_state["burst"], settings)


def _draw_settings(running: FlowSettings | None) -> None:
    """The fields. While a flow runs, they show its settings, which all pages share, and cannot be changed."""
    fields = st.session_state
    if running:
        fields["symbols"] = list(running.symbols)
        fields["rate"], fields["buys"] = int(running.rate), round(100 * running.buys)
    is_fixed = running is not None
    # One key for both states: Streamlit shows two fields for a moment when one takes the place of the other. A field
    # whose value is set, as above, must have no other default; to Streamlit, index 0 is none.
    st.multiselect(
        "Symbols", list(dict.fromkeys((*SYMBOLS, *fields.get("symbols", ())))), key="symbols",
        default=None if is_fixed else SYMBOLS, accept_new_options=True, placeholder="none", disabled=is_fixed,
    )  # fmt: skip
    rate, buys, burst = st.columns(3, gap="small", wrap=False)
    # Without a filter: typing 1000 would choose 10 or 100.
    rate.selectbox(
        "Per second", _RATES, index=0 if is_fixed else _RATES.index(_RATE), format_func=number, key="rate",
        disabled=is_fixed, filter_mode=None,
    )  # fmt: skip
    buys.selectbox(
        "Buys", _BUYS, index=0 if is_fixed else _BUYS.index(_HALF), format_func=lambda part: f"{part} %", key="buys",
        disabled=is_fixed, filter_mode=None,
    )  # fmt: skip
    burst.selectbox("Burst of", _BURSTS, index=_BURSTS.index(_BURST), format_func=number, key="burst", filter_mode=None)


def _draw_load(desk: Desk) -> None:
    """What the simulator does right now, and what that costs the publisher."""
    load = desk.load
    calls, seconds = (per_second(load.calls), duration(load.seconds)) if load else (NONE, NONE)
    left, right = st.columns(2, gap="small", wrap=False)
    left.metric("Calls of publish()", calls, help="How often the simulator called publish() in a second.")
    right.metric("Time per call", seconds, help="Median duration of a publish() call in that second.")
    if desk.flow_problem:
        st.error(f"Simulated trades stopped early: {desk.flow_problem}.")


def _settings() -> FlowSettings | None:
    """The settings in the fields; None if a symbol is invalid."""
    fields = st.session_state
    try:
        symbols = tuple(check_symbol(symbol) for symbol in fields["symbols"])
    except ValueError as error:
        st.toast(f"Nothing was sent: {error}.", icon=":material/error:", duration="long")
        return None
    return FlowSettings(float(fields["rate"]), fields["buys"] / 100, symbols)
