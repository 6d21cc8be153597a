"""The buttons that trade: one press is one trade, by mouse, touch or key, wherever the focus is but in a text field."""

from pathlib import Path
from typing import Any

import streamlit as st

from trading_app.messages import Side

_KEPT = 50
# The keys stand on the buttons, which are there once keys are listened for.
_HTML = """
<div class="pair">
  <button type="button" value="buy" aria-keyshortcuts="B">Buy <kbd aria-hidden="true">B</kbd></button>
  <button type="button" value="sell" aria-keyshortcuts="S">Sell <kbd aria-hidden="true">S</kbd></button>
</div>
"""
# Grafana's green and red, with a text that can be read on both.
_CSS = """
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem; }
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
    """The side of each press since the last time. When another ``symbol`` is chosen, its field lets go of the keys."""
    seen: list[str] = st.session_state.setdefault("seen-presses", [])
    result = _component(key="buttons", data={"seen": seen, "symbol": symbol}, on_pressed_change=lambda: None)
    presses: list[dict[str, Any]] = [press for press in result.pressed or [] if press["id"] not in seen]
    seen += [press["id"] for press in presses]
    del seen[:-_KEPT]
    return [press["side"] for press in presses]
