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
        self._totals: Totals | None = None

    def trade(self, side: Side, qty: float | None) -> None:
        """Send a trade of ``qty`` units, None where what was typed is no number.

        Raises:
            ValueError: the order makes no trade; the message says why.
        """
        if qty is None:
            raise ValueError("the quantity is not a number")
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

    def totals(self) -> Totals | None:
        """What the side-car has counted, at most `_REFRESH` seconds ago, or None while it is away."""
        with self._asking:
            if time.monotonic() - self._asked_at >= _REFRESH:
                try:
                    self._totals = self._sidecar.totals()
                except SidecarAway:
                    self._totals = None
                self._asked_at = time.monotonic()
            return self._totals

    def close(self) -> None:
        self._publisher.close(timeout=1.0)
