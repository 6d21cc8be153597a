"""Buy and Sell: one press is one trade, by mouse, touch or key, wherever the focus is except in a text field."""

import time
from pathlib import Path
from typing import Any

import streamlit as st

from trading_app.messages import Side

# Must exceed MAX_AGE in buttons.js.
_REMEMBERED_SECONDS = 10.0
# The buttons name their keys: when they are visible, the keys work.
_HTML = """
<div class="pair">
  <button type="button" value="buy" aria-keyshortcuts="B">Buy <kbd aria-hidden="true">B</kbd></button>
  <button type="button" value="sell" aria-keyshortcuts="S">Sell <kbd aria-hidden="true">S</kbd></button>
  <p role="alert"></p>
</div>
"""
# Grafana's green and red, with a text colour that is readable on both. The alert covers the ticket's line for hints.
_CSS = """
.pair { position: relative; display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem; }
.pair:not(.ready) { visibility: hidden; }
p { position: absolute; bottom: 100%; left: 0; right: 0; margin: 0; padding: 0.25rem 0; font-size: 0.8rem; }
p { background: var(--st-background-color); color: light-dark(#a3001a, #ff9aa2); }
p:empty { display: none; }
button {
  min-height: 2.75rem; border: 0; border-radius: var(--st-button-radius); color: #111217; cursor: pointer;
  font: inherit; font-weight: 600; touch-action: manipulation;
}
button[value=buy] { background: #73BF69; }
button[value=sell] { background: #F2495C; }
button:hover { filter: brightness(1.1); }
button:active { filter: brightness(0.9); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
kbd { font: inherit; font-weight: 400; margin-left: 0.25rem; }
@media (hover: none) { kbd { display: none; } }
"""

_component = st.components.v2.component(
    "trade_buttons", html=_HTML, css=_CSS, js=Path(__file__).with_suffix(".js").read_text()
)


def draw_buttons(symbol: str) -> list[Side]:
    """Return the side of each new press. When ``symbol`` changes, its field loses the focus, so that the keys work."""
    now = time.monotonic()
    seen: dict[str, float] = st.session_state.get("seen-presses", {})
    result = _component(key="buttons", data={"seen": list(seen), "symbol": symbol}, on_pressed_change=lambda: None)
    presses: list[dict[str, Any]] = [press for press in result.pressed or [] if press["id"] not in seen]
    recent = {press: at for press, at in seen.items() if now - at < _REMEMBERED_SECONDS}
    st.session_state["seen-presses"] = recent | {press["id"]: now for press in presses}
    return [press["side"] for press in presses]
