"""The ticket: symbol, quantity, price, Buy and Sell."""

from collections.abc import Callable

import streamlit as st

from trading_app.messages import Side
from trading_app.outbox_error import OutboxError
from trading_app.ui.buttons import draw_buttons
from trading_app.ui.desk import Desk
from trading_app.ui.fields import problem, read_price, read_quantity, read_symbol

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
_FIELDS: dict[str, Callable[[str], object]] = {"symbol": read_symbol, "quantity": read_quantity, "price": read_price}


def current_symbol(desk: Desk) -> str:
    """The symbol in the ticket, at first the one that was chosen last; "" for none."""
    # Once drawn, a choice on another page must not change it.
    st.session_state.setdefault("first-symbol", desk.symbol)
    symbol = _typed("symbol") if "symbol" in st.session_state else str(st.session_state["first-symbol"])
    return "" if problem(read_symbol, symbol) else symbol.strip()


def draw_ticket(desk: Desk) -> None:
    first: str = st.session_state["first-symbol"]
    # The chosen symbol must be an option: otherwise, typing it again would choose another one.
    symbols = sorted({"", first, _typed("symbol"), *SYMBOLS, *desk.traded_symbols})
    with st.container(border=True, key="ticket", gap="small"):
        columns = st.columns([4, 3, 3], gap="xsmall", wrap=False)
        symbol = columns[0].selectbox(
            "Symbol", symbols, index=symbols.index(first), format_func=lambda symbol: symbol or "none", key="symbol",
            accept_new_options=True, on_change=_remember_symbol, args=(desk,),
        )  # fmt: skip
        # A number field drops characters that it cannot read: it would turn 2,5 into 25.
        quantity = columns[1].text_input("Quantity", value="1", key="quantity")
        price = columns[2].text_input("Price", key="price", placeholder="optional")
        _draw_hint()
        if sides := draw_buttons(symbol):
            for side in sides:
                _send(desk, side, symbol, quantity, price)
            desk.settle()
        _draw_refusals()


def _remember_symbol(desk: Desk) -> None:
    if not problem(read_symbol, _typed("symbol")):
        desk.remember_symbol(_typed("symbol").strip())


def _draw_hint() -> None:
    """Say what is wrong with a field, as soon as it loses the focus."""
    for name, read in _FIELDS.items():
        if why := problem(read, _typed(name)):
            with st.container(key=f"wrong-{name}"):
                text = why.partition(", not ")[0]
                st.html(f'<p class="hint" role="alert">{text[0].upper()}{text[1:]}</p>')
            return
    # The empty line keeps the buttons in their place.
    st.html('<p class="hint"></p>')


def _send(desk: Desk, side: Side, symbol: str, quantity: str, price: str) -> None:
    try:
        desk.trade(side, read_quantity(quantity), read_symbol(symbol), read_price(price))
    except (ValueError, OutboxError, RuntimeError) as error:
        st.session_state.setdefault("refusals", []).append(f"Nothing was sent: {error}.")


def _draw_refusals() -> None:
    refusals: list[str] = st.session_state.get("refusals", [])
    while refusals:
        st.toast(refusals[0], icon=":material/error:", duration="long")
        # Remove it only once it is shown: a rerun may interrupt this script.
        del refusals[0]


def _typed(name: str) -> str:
    return str(st.session_state.get(name) or "")
