"""The way a program emits trades."""

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
    """Emits trades to the sidecar, from any number of threads.

    `publish` numbers a trade and appends it to a journal; it never waits for the sidecar. A thread of the publisher's
    own sends the journal's trades until the sidecar has committed them.

    A publisher belongs to the process that made it: in a forked child `publish` raises RuntimeError.

    Args:
        address: where the sidecar takes trades, such as ``tcp://localhost:5555``. It need not be there yet.
        sidecar_url: where it tells what is committed, such as ``http://localhost:8001``.
        outbox: a folder that keeps the journal when the process dies, or None for memory.
        capacity: how many trades wait before the oldest are dropped.
        curve: a folder with ``client.key_secret`` and ``server.key``, or None to send without encryption.

    Raises:
        ValueError: ``address`` is not a ZeroMQ address, ``sidecar_url`` not an HTTP address, ``capacity`` not a whole
            number above 0, or ``curve`` has no such keys.
        OutboxError: the outbox is in use by another process, or cannot be used.
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
        except ValueError:
            self._journal.close()
            raise
        # A publisher that nobody holds any more is drained and closed by its thread.
        weakref.finalize(self, self._sender.stop, EXIT_SECONDS).atexit = False

    def publish(
        self, side: Side, qty: SupportsFloat = 1.0, *, symbol: str | None = None, price: SupportsFloat | None = None
    ) -> Trade:
        """Emit one trade of ``qty`` units at ``price`` per unit, dated now. Not for signal handlers.

        Raises:
            ValueError: the side is unknown, or a value is out of its range: ``qty`` above 0 up to 1e12, ``price`` 0 to
                1e12, ``symbol`` 1 to 32 of ``A-Z a-z 0-9 . _ : / -``.
            OutboxError: the outbox has no room. The trade was not sent.
            RuntimeError: the publisher is closed, or was made by the process that forked this one.
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
        """The session that the next trade is numbered in. It changes when a publisher was idle for a day."""
        return self._journal.newest[0]

    @property
    def capacity(self) -> int:
        """How many trades wait before the oldest are dropped."""
        return self._journal.capacity

    @property
    def pending(self) -> int:
        """Trades that the sidecar is not known to have committed."""
        return self._journal.pending

    @property
    def lost(self) -> int:
        """Trades dropped from a full journal before they were known to be committed.

        Some of them may have been: what the sidecar missed for good is in its ``trades_lost_total``.
        """
        return self._journal.losses.count

    @property
    def counts(self) -> Counts:
        """Trades published, lost and pending, and the journal's bytes, all of one instant.

        It takes the journal's lock for some microseconds.
        """
        return self._journal.counts

    def status(self, trade: Trade) -> Status:
        """What became of a trade that this publisher has published; lost means dropped, as in `lost`."""
        return self._journal.status(trade)

    def wait(self, trade: Trade, timeout: float = 5.0) -> Status:
        """Wait up to ``timeout`` seconds until it is known what became of a trade, and return its `status`."""
        with self._journal.lock:
            self._journal.changed.wait_for(lambda: self._journal.status(trade) != "waiting", timeout)
            return self._journal.status(trade)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to ``timeout`` seconds for what is published by now to be committed; tell whether it is."""
        journal = self._journal
        with journal.lock:
            ends = journal.ends
            return journal.changed.wait_for(
                lambda: not any(journal.is_waiting(session, 1, end) for session, end in ends.items()), timeout
            )

    def close(self, timeout: float = 5.0) -> None:
        """Flush for up to ``timeout`` seconds, then release socket and outbox. Closing twice does no harm.

        What is not committed by then stays in an outbox, and is lost with a journal in memory.
        """
        self._sender.stop(timeout)
        self._sender.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


# What only some publishers need is imported with the first of them, so that `import trading_app` takes little time.


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
