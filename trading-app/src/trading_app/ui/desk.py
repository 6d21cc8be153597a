"""What all open pages share: one publisher, one log, one order flow, one view of the loop."""

import queue
import re
import threading
import time
from collections import deque
from dataclasses import dataclass

import streamlit as st

from trading_app.losses import Status
from trading_app.messages import Side, Trade
from trading_app.metrics import process_registry
from trading_app.outbox import open_outbox
from trading_app.publisher import TradePublisher
from trading_app.settings import Settings
from trading_app.ui.flow import Flow
from trading_app.ui.watch import View, Watch

_LOG_LENGTH = 10
_POLL = 0.5
# float() takes more, such as 1_000: what was meant by that?
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass
class Sent:
    """A trade sent by hand, what became of it, and after how many seconds that was known."""

    trade: Trade
    status: Status = "waiting"
    seconds: float | None = None


class Desk:
    """Sends trades, and knows what became of them and how the loop is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        outbox = open_outbox(settings.outbox, "ui")
        self._publisher = TradePublisher(
            settings.zmq_addr, sidecar_url=settings.sidecar_url, outbox=outbox, curve=settings.curve
        )
        self.capacity = self._publisher.capacity
        self.registry = process_registry(self._publisher)
        self._watch = Watch(settings)
        self.flow = Flow(self._publisher)
        self._log: deque[Sent] = deque(maxlen=_LOG_LENGTH)
        self._unsettled: queue.Queue[Sent | None] = queue.Queue()
        self._closed = threading.Event()
        self._settling = threading.Thread(target=self._settle, name="desk", daemon=True)
        self._settling.start()

    def trade(self, side: Side, quantity: str) -> None:
        """Send a trade of the quantity that was typed.

        Raises:
            ValueError: the order makes no trade; the message says why.
            OutboxError: the trade could not be kept, and was not sent.
        """
        if not _NUMBER.fullmatch(quantity.strip()):
            raise ValueError(f"the quantity must be a number such as 2.5, not {quantity!r}")
        qty = float(quantity)
        sent = Sent(self._publisher.publish(side, qty))
        self._log.appendleft(sent)
        self._unsettled.put(sent)

    @property
    def log(self) -> list[Sent]:
        """The trades sent by hand, the newest first."""
        return list(self._log)

    @property
    def waiting(self) -> int:
        """Trades that the side-car has not committed yet."""
        return self._publisher.pending

    @property
    def lost(self) -> int:
        """Trades dropped because too many waited."""
        return self._publisher.lost

    def look(self) -> View:
        """How the loop is."""
        return self._watch.look()

    def close(self) -> None:
        self.flow.stop()
        self._watch.close()
        self._closed.set()
        self._unsettled.put(None)
        self._settling.join()
        self._publisher.close(timeout=1.0)

    def _settle(self) -> None:
        """Note of each trade in the log when it is known what became of it."""
        while sent := self._unsettled.get():
            while sent.status == "waiting" and not self._closed.is_set():
                status = self._publisher.wait(sent.trade, _POLL)
                sent.seconds = time.time() - sent.trade.ts
                sent.status = status


@st.cache_resource(show_spinner=False, on_release=Desk.close)
def shared_desk() -> Desk:
    """The one desk of the server."""
    return Desk(Settings.from_environ(port=8501))
