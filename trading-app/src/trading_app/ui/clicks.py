"""Clicks on Streamlit's buttons, each handled once.

Streamlit's client sends a click twice if the timer of a fragment fires at the same moment. The second one would undo
the first where a button changes its meaning, such as Start and Stop.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st

# The server handles a repeated click right after the redraw for the first. To click again, a person needs longer.
REPEATED_SECONDS = 0.05


def once(button: str, act: Callable[..., None], *arguments: object) -> None:
    """Call ``act``, unless this click repeats the one before on the same button. For ``on_click``."""
    shown, at = st.session_state.get("click-shown", ("", -math.inf))
    if button != shown or time.monotonic() - at >= REPEATED_SECONDS:
        act(*arguments)
        st.session_state["clicked"] = button


@contextmanager
def redraw() -> Iterator[None]:
    """Draw the page in this block. Once it is complete, it shows what the click of this run did."""
    # A run may be interrupted. Its click must not count as shown by a later run, just before another click is handled.
    button = st.session_state.pop("clicked", "")
    yield
    if button:
        st.session_state["click-shown"] = button, time.monotonic()
