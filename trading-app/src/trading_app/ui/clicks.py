"""Clicks on Streamlit's buttons, each handled once.

Streamlit's client sends a click twice if the timer of a fragment fires at the same moment. The second one would undo
the first where a button changes its meaning, such as Start and Stop.
"""

import math
import time
from collections.abc import Callable

import streamlit as st

# The server handles a repeated click right after the redraw for the first. To click again, a person needs longer.
REPEATED_SECONDS = 0.05


def once(button: str, act: Callable[..., None], *arguments: object) -> None:
    """Call ``act``, unless this click repeats the one before on the same button. For ``on_click``."""
    shown, at = st.session_state.get("click-shown", ("", -math.inf))
    if button != shown or time.monotonic() - at >= REPEATED_SECONDS:
        act(*arguments)
        st.session_state["clicked"] = button


def note_redraw() -> None:
    """A redraw of the page is complete, and shows what the last click did."""
    if button := st.session_state.pop("clicked", ""):
        st.session_state["click-shown"] = button, time.monotonic()
