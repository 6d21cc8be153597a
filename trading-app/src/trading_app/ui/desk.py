"""What all open pages share: one publisher, one log, one view of the side-car."""

import threading
import time
from collections import deque

from trading_app.messages import Side, Trade
from trading_app.outbox import Status, open_outbox
from trading_app.publisher import TradePublisher
from trading_app.settings import Settings
from trading_app.sidecar import Sidecar, SidecarAway, Totals

_LOG_LENGTH = 10
# A click draws the page anew, and should not wait for the side-car again: Streamlit takes clicks that come while it
# draws for one.
_REFRESH = 0.9


class Desk:
    """Sends the trades made on the page, and knows what became of them."""

    def __init__(self, settings: Settings) -> None:
        self._publisher = TradePublisher(
            settings.zmq_addr, sidecar_url=settings.sidecar_url, outbox=open_outbox(settings.outbox, "ui")
        )
        self._sidecar = Sidecar(settings.sidecar_url)
        self._log: deque[Trade] = deque(maxlen=_LOG_LENGTH)
        self._asking = threading.Lock()
        self._asked_at = -_REFRESH
        self._totals: Totals | SidecarAway = SidecarAway("not asked yet")

    def trade(self, side: Side, quantity: str) -> None:
        """Send a trade of the quantity that was typed.

        Raises:
            ValueError: the order makes no trade; the message says why.
            OutboxError: the trade could not be kept, and was not sent.
        """
        try:
            qty = float(quantity)
        except ValueError:
            raise ValueError(f"the quantity must be a number such as 2.5, not {quantity!r}") from None
        self._log.appendleft(self._publisher.publish(side, qty))

    @property
    def log(self) -> list[tuple[Trade, Status]]:
        """The trades sent last, the newest first, and what became of each."""
        return [(trade, self._publisher.status(trade)) for trade in self._log]

    @property
    def waiting(self) -> int:
        """Trades that the side-car has not committed yet."""
        return self._publisher.pending

    @property
    def lost(self) -> int:
        """Trades dropped because too many waited."""
        return self._publisher.lost

    def totals(self) -> Totals | SidecarAway:
        """What the side-car has counted, at most `_REFRESH` seconds ago, or why it does not tell."""
        with self._asking:
            if time.monotonic() - self._asked_at >= _REFRESH:
                try:
                    self._totals = self._sidecar.totals()
                except SidecarAway as away:
                    self._totals = away
                self._asked_at = time.monotonic()
            return self._totals

    def close(self) -> None:
        self._publisher.close(timeout=1.0)
