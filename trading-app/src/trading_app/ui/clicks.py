"""Clicks on Streamlit's buttons, each handled once.

Streamlit's client sends a click twice if the timer of a fragment fires at the same moment. The second one would undo
the first where a button changes its meaning, such as Start and Stop.
"""

import math
import time
from collections.abc import Callable

import streamlit as st

# The server handles a repeated click right after the redraw for the first. To see that redraw, a person needs longer.
REPEATED_SECONDS = 0.1


def once(act: Callable[..., None], *arguments: object) -> None:
    """Call ``act``, unless this click repeats the one before. For ``on_click``."""
    if time.monotonic() - st.session_state.get("click-shown-at", -math.inf) >= REPEATED_SECONDS:
        act(*arguments)
        st.session_state["clicked"] = True


def note_redraw() -> None:
    """A redraw of the page is complete, and shows what the last click did."""
    if st.session_state.pop("clicked", False):
        st.session_state["click-shown-at"] = time.monotonic()
