"""The tape: the last trades counted, of all publishers, and the state of this page's own trades."""

from typing import NamedTuple

import pyarrow as pa
import streamlit as st

from trading_app.counted import CountedTrade
from trading_app.messages import Side
from trading_app.ui.desk import Desk
from trading_app.ui.formatting import clock, duration, number, trades_text
from trading_app.ui.handover import Sent
from trading_app.ui.numbers import COLOURS, NONE
from trading_app.ui.poller import Snapshot

_ROWS = 20
_ALL, _MINE = "All trades", "My trades"
_STATES = {"waiting": ":blue-badge[waiting]", "counted": ":green[counted]", "lost": ":red-badge[lost]", "": ""}


class Row(NamedTuple):
    """A trade as shown.

    ``seconds`` is the time to the sidecar, for the list of this page's trades to the confirmation; None while unknown.
    ``state`` is "" for trades of other publishers.
    """

    ts: float
    side: Side
    symbol: str | None
    qty: float
    price: float | None
    seconds: float | None
    state: str


def tape(log: list[Sent], sessions: frozenset[str], snapshot: Snapshot) -> list[Row]:
    """Waiting trades, then counted ones, each newest first."""
    counted = [_counted(trade, trade.session in sessions) for trade in snapshot.trades]
    known = {trade.number for trade in snapshot.trades}
    unseen = [sent for sent in log if (sent.trade.session, sent.trade.seq) not in known]
    waiting = [_sent(sent) for sent in unseen if sent.status == "waiting"]
    # The sidecar's list lacks trades that were counted after the last poll, and lost ones.
    oldest = counted[-1].ts if counted else 0.0
    others = [_sent(sent) for sent in unseen if _is_missed(sent, snapshot.trades_at, oldest)]
    return waiting + sorted(others + counted, key=lambda row: row.ts, reverse=True) if others else waiting + counted


def my_trades(log: list[Sent]) -> list[Row]:
    """The trades made on this page, newest first."""
    return [_sent(sent)._replace(seconds=_confirmed_after(sent)) for sent in log]


def _is_missed(sent: Sent, trades_at: float, oldest: float) -> bool:
    if sent.status == "lost":
        return sent.trade.ts >= oldest
    return sent.status == "delivered" and sent.settled_at is not None and sent.settled_at >= trades_at


def _counted(trade: CountedTrade, is_mine: bool) -> Row:
    delivery = max(0.0, trade.received_at - trade.ts)
    return Row(trade.ts, trade.side, trade.symbol, trade.qty, trade.price, delivery, "counted" if is_mine else "")


def _sent(sent: Sent) -> Row:
    trade = sent.trade
    state = "counted" if sent.status == "delivered" else sent.status
    return Row(trade.ts, trade.side, trade.symbol, trade.qty, trade.price, None, state)


def _confirmed_after(sent: Sent) -> float | None:
    return sent.settled_at - sent.trade.ts if sent.status == "delivered" and sent.settled_at is not None else None


def draw_tape(desk: Desk, snapshot: Snapshot) -> None:
    shown = st.segmented_control(
        "Tape", [_ALL, _MINE], default=_ALL, required=True, key="tape-of", label_visibility="collapsed"
    )
    log = desk.log
    rows = my_trades(log) if shown == _MINE else tape(log, desk.sessions, snapshot)
    column = "Confirmed" if shown == _MINE else "Delivery"
    st.table(_table(rows[:_ROWS], column), border="horizontal", hide_index=True, hide_header=False, alt=shown)
    st.markdown(f":small[{_caption(shown, rows)}]")


def _caption(shown: str, rows: list[Row]) -> str:
    if not rows:
        return "No trades yet."
    if shown == _MINE:
        last = trades_text(len(rows))
        return f"The last {last} made on this page. Confirmed: time until the sidecar confirmed the trade."
    return "Counted by the sidecar, from all publishers. Delivery: time from publisher to sidecar."


def _table(rows: list[Row], column: str) -> pa.Table:
    columns = {
        "Time": (clock(row.ts, "milliseconds") for row in rows),
        "Side": (f":{COLOURS[row.side]}[{row.side}]" for row in rows),
        "Symbol": (row.symbol or NONE for row in rows),
        "Quantity": (number(row.qty) for row in rows),
        "Price": (NONE if row.price is None else number(row.price) for row in rows),
        column: (NONE if row.seconds is None else duration(row.seconds) for row in rows),
        "State": (_STATES[row.state] for row in rows),
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
