"""What all open pages share: one publisher, one log of trades, one simulator, one poller."""

import queue
import threading
import time
from pathlib import Path

import streamlit as st

from trading_app.messages import Side
from trading_app.metrics import process_registry
from trading_app.outbox import Outbox, open_outbox
from trading_app.publisher import TradePublisher
from trading_app.settings import Settings
from trading_app.ui.handover import Handover, Sent
from trading_app.ui.poller import Poller, Snapshot
from trading_app.ui.simulator import FlowSettings, Load, Simulator

_LOG_LENGTH = 20
_POLL = 0.5
# Most trades are counted sooner.
PATIENCE = 0.1


class Desk:
    """Sends trades, and knows their state and that of the loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        outbox = open_outbox(settings.outbox, "ui")
        self._publisher = TradePublisher(
            settings.zmq_addr, sidecar_url=settings.sidecar_url, outbox=outbox, curve=settings.curve
        )
        self.capacity = self._publisher.capacity
        self.registry = process_registry(self._publisher)
        self._poller = Poller(settings)
        self._simulator = Simulator(self._publisher)
        self._unsettled: queue.Queue[Sent | None] = queue.Queue()
        self._closed = threading.Event()
        self._handover = Handover(_beside(outbox.path) if isinstance(outbox, Outbox) else None)
        self._state = self._handover.state
        self._take_over()
        self._settling = threading.Thread(target=self._settle_forever, name="desk", daemon=True)
        self._settling.start()

    def trade(self, side: Side, qty: float, symbol: str | None, price: float | None) -> None:
        """Publish a trade.

        Raises:
            ValueError: a value is invalid; the message says why.
            OutboxError: the trade could not be stored, and was not sent.
        """
        sent = Sent(self._publisher.publish(side, qty, symbol=symbol, price=price))
        self._state.log.insert(0, sent)
        del self._state.log[_LOG_LENGTH:]
        self._unsettled.put(sent)
        self._save()

    def settle(self) -> None:
        """Wait a moment until the trades made last are counted, so that the page shows them as such at once."""
        until = time.monotonic() + PATIENCE
        for sent in self.log:
            if sent.status == "waiting":
                self._wait(sent, max(0.0, until - time.monotonic()))

    def remember_symbol(self, symbol: str) -> None:
        """Set the symbol that a new page starts with; "" for none."""
        self._state.symbol = symbol
        self._save()

    @property
    def log(self) -> list[Sent]:
        """The trades made on the page, newest first."""
        return list(self._state.log)

    @property
    def symbol(self) -> str:
        """The symbol that was chosen last; empty for none."""
        return self._state.symbol

    @property
    def sessions(self) -> frozenset[str]:
        """The sessions in which this page's trades are numbered."""
        return frozenset((*self._state.sessions, self._publisher.session))

    @property
    def waiting(self) -> int:
        """The number of trades that the sidecar has not committed yet."""
        return self._publisher.pending

    @property
    def lost(self) -> int:
        """The number of trades dropped because the outbox was full."""
        return self._publisher.lost

    def look(self, symbol: str) -> Snapshot:
        """The state of the loop, with the charts of a symbol, "" for trades without one."""
        return self._poller.look(symbol)

    @property
    def traded_symbols(self) -> frozenset[str]:
        """The symbols of the trades that the sidecar has counted, as of the last poll."""
        totals = self._poller.last.totals
        return frozenset(totals.by_symbol) if totals else frozenset()

    @property
    def flow(self) -> FlowSettings | None:
        """The simulated flow that is running; None if there is none."""
        return self._simulator.settings

    @property
    def flow_problem(self) -> str:
        """Why the last flow or burst ended by itself; empty if it did not."""
        return self._simulator.problem

    @property
    def load(self) -> Load | None:
        """What the simulator does to the publisher; None while it does nothing."""
        return self._simulator.load

    def start_flow(self, settings: FlowSettings) -> None:
        """Start a simulated flow, unless one is running."""
        self._simulator.start(settings)
        self._save()

    def stop_flow(self) -> None:
        self._simulator.stop()
        self._save()

    def burst(self, count: int, settings: FlowSettings) -> None:
        """Publish ``count`` simulated trades at once, unless a burst is in progress."""
        self._simulator.burst(count, settings)

    def close(self) -> None:
        self._simulator.close()
        self._poller.close()
        self._closed.set()
        self._unsettled.put(None)
        self._settling.join()
        self._publisher.close(timeout=1.0)

    def _take_over(self) -> None:
        """Continue where the server stopped that hot reload replaces."""
        for sent in reversed(self._state.log):
            if sent.status == "waiting":
                self._unsettled.put(sent)
        if self._state.flow:
            self._simulator.start(self._state.flow)

    def _save(self) -> None:
        self._state.flow = self._simulator.settings
        self._state.sessions = sorted(self.sessions)
        self._handover.save()

    def _settle_forever(self) -> None:
        """Set the state of each trade in the log once it is known."""
        while sent := self._unsettled.get():
            while sent.status == "waiting" and not self._closed.is_set():
                self._wait(sent, _POLL)
            self._handover.save()

    def _wait(self, sent: Sent, seconds: float) -> None:
        status = self._publisher.wait(sent.trade, seconds)
        # Another thread may have settled the trade meanwhile.
        if status != "waiting" and sent.status == "waiting":
            sent.settled_at = time.time()
            sent.status = status


def _beside(outbox: Path) -> Path:
    return outbox.with_name(f"{outbox.name}.reload.json")


@st.cache_resource(show_spinner=False, on_release=Desk.close)
def shared_desk() -> Desk:
    """The one desk of the server."""
    return Desk(Settings.from_environ(port=8501))
