"""`TradePublisher`, which programs use to emit trades."""

import time
import weakref
from os import PathLike
from types import TracebackType
from typing import Self, SupportsFloat

from trading_app.chain import Storage
from trading_app.counts import Counts
from trading_app.journal import Journal
from trading_app.losses import Status
from trading_app.messages import Side, Trade, check_price, check_qty, check_side, check_symbol
from trading_app.outlet import Keys
from trading_app.segment import Memory
from trading_app.sender import EXIT_SECONDS, Sender


class TradePublisher:
    """Emits trades to the sidecar. Any number of threads may use it.

    `publish` numbers a trade and appends it to a journal. It never waits for the sidecar. A background thread sends the
    journal's trades until the sidecar has committed them.

    A publisher belongs to the process that created it. In a forked child, `publish` raises RuntimeError.

    Args:
        address: the sidecar's ZeroMQ address, such as ``tcp://localhost:5555``. The sidecar need not run yet.
        sidecar_url: the sidecar's HTTP address, such as ``http://localhost:8001``.
        outbox: a folder that keeps the journal if the process dies, or None to keep it in memory.
        capacity: the number of trades that may be pending before the oldest are dropped.
        curve: a folder with ``client.key_secret`` and ``server.key``, or None to send without encryption.

    Raises:
        ValueError: ``address`` is not a ZeroMQ address, ``sidecar_url`` is not an HTTP address, ``capacity`` is not a
            whole number above 0, or ``curve`` does not hold these keys.
        OutboxError: another publisher holds the outbox, or it cannot be used.
        zmq.ZMQError: ZeroMQ cannot open its sockets, for example because this process has too many open files.
    """

    def __init__(
        self,
        address: str,
        *,
        sidecar_url: str,
        outbox: Storage | str | PathLike[str] | None = None,
        capacity: int = 1_000_000,
        curve: str | PathLike[str] | None = None,
    ) -> None:
        if type(capacity) is not int or capacity < 1:
            raise ValueError(f"the capacity must be a whole number above 0, not {capacity!r}")
        keys = None if curve is None else _keys(curve)
        self._journal = Journal(_storage(outbox), capacity)
        try:
            self._sender = Sender(self._journal, address, sidecar_url, keys)
        except BaseException:
            # Without a sender, nobody else would release the outbox.
            self._journal.close()
            raise
        # The thread flushes and closes a publisher that is garbage collected.
        weakref.finalize(self, self._sender.stop, EXIT_SECONDS).atexit = False

    def publish(
        self, side: Side, qty: SupportsFloat = 1.0, *, symbol: str | None = None, price: SupportsFloat | None = None
    ) -> Trade:
        """Emit one trade of ``qty`` units at ``price`` per unit, with the current time. Not for signal handlers.

        Raises:
            ValueError: the side is not buy or sell, or a value is out of range: ``qty`` above 0 and at most 1e12,
                ``price`` 0 to 1e12, ``symbol`` 1 to 32 characters from ``A-Z a-z 0-9 . _ : / -``.
            OutboxError: the outbox has no room. The trade is not sent.
            RuntimeError: the publisher is closed, its sending thread failed, or it belongs to the parent process.
        """
        trade = self._journal.append(
            check_side(side),
            check_qty(qty),
            time.time(),
            None if symbol is None else check_symbol(symbol),
            None if price is None else check_price(price),
        )
        if self._sender.sleeps:
            self._sender.wake()
        return trade

    @property
    def session(self) -> str:
        """The session of the next trade. A publisher that was idle for a day begins a new one."""
        return self._journal.newest[0]

    @property
    def capacity(self) -> int:
        """The number of trades that may be pending before the oldest are dropped."""
        return self._journal.capacity

    @property
    def pending(self) -> int:
        """The number of trades that the sidecar is not known to have committed."""
        return self._journal.pending

    @property
    def lost(self) -> int:
        """The number of trades dropped from a full journal before they were known to be committed.

        The sidecar may have counted some of them. Its ``trades_lost_total`` counts those it never received.
        """
        return self._journal.losses.count

    @property
    def counts(self) -> Counts:
        """A consistent snapshot: trades published, lost and pending, and the journal's size.

        This holds the journal's lock for some microseconds.
        """
        return self._journal.counts

    def status(self, trade: Trade) -> Status:
        """The status of a trade of this publisher: "waiting", "delivered", or "lost" as in `lost`.

        A trade that was dropped long ago, before 10,000 other drops, is reported as delivered.
        """
        return self._journal.status(trade)

    def wait(self, trade: Trade, timeout: float = 5.0) -> Status:
        """Wait up to ``timeout`` seconds until a trade is delivered or lost, and return its `status`."""
        with self._journal.lock:
            self._journal.changed.wait_for(lambda: self._journal.status(trade) != "waiting", timeout)
            return self._journal.status(trade)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to ``timeout`` seconds until no trade published so far is pending. Return whether that is so.

        Each of these trades is then committed, or was dropped from a full journal and counts in `lost`.
        """
        journal = self._journal
        with journal.lock:
            ends = journal.ends
            return journal.changed.wait_for(
                lambda: not any(journal.is_waiting(session, 1, end) for session, end in ends.items()), timeout
            )

    def close(self, timeout: float = 5.0) -> None:
        """Flush for up to ``timeout`` seconds, then release the socket and the outbox. Closing twice is harmless.

        Trades that are still uncommitted stay in the outbox. Without an outbox they are lost.
        """
        self._sender.stop(timeout)
        self._sender.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


# Few publishers need these modules. Importing them here keeps `import trading_app` fast.


def _keys(folder: str | PathLike[str]) -> Keys:
    from trading_app.curve import load_keys, warn_if_exposed  # noqa: PLC0415

    keys = load_keys(folder)
    warn_if_exposed(folder)
    return keys


def _storage(outbox: Storage | str | PathLike[str] | None) -> Storage:
    if outbox is None:
        return Memory()
    if not isinstance(outbox, str | PathLike):
        return outbox
    from trading_app.outbox import Outbox  # noqa: PLC0415

    return Outbox(outbox)
