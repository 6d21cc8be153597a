"""The way a program emits trades."""

import threading
import time
from types import TracebackType
from typing import Self

import zmq

from trading_app.messages import Side, Trade, check_order
from trading_app.outbox import MemoryOutbox

_CHUNK = 500
_RETRY_SECONDS = 0.02


class TradePublisher:
    """Emits trades to the side-car, from any number of threads; no call waits for the side-car.

    A trade goes to the socket in the thread that publishes it. What the socket does not take, because the side-car is
    away or slow, waits in the outbox, and a thread of the publisher's own sends it on.

    Args:
        address: where the side-car listens, such as ``tcp://localhost:5555``. It need not be there yet.
        outbox: where trades wait; by default in memory.

    Raises:
        ValueError: ``address`` is not a ZeroMQ address.
    """

    def __init__(self, address: str, *, outbox: MemoryOutbox | None = None) -> None:
        self._outbox = MemoryOutbox() if outbox is None else outbox
        self._changed = threading.Condition()
        self._closed = False
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        # Without a connection the socket takes nothing, so that what waits is all in the outbox, and counted.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.LINGER, 1000)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ValueError(f"not a ZeroMQ address: {address} ({error.strerror})") from None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def publish(self, side: Side, qty: float = 1.0) -> Trade:
        """Emit one trade of ``qty`` units, dated now.

        Raises:
            ValueError: the side is unknown, or ``qty`` is not a finite number above 0.
            RuntimeError: the publisher is closed.
        """
        check_order(side, qty)
        trade = Trade(side, float(qty), time.time())
        message = trade.encode()
        with self._changed:
            if self._closed:
                raise RuntimeError("the publisher is closed")
            if self._outbox or not self._send(message):
                self._outbox.append(message)
                self._changed.notify_all()
        return trade

    @property
    def pending(self) -> int:
        """Trades that wait in the outbox."""
        return len(self._outbox)

    @property
    def lost(self) -> int:
        """Trades dropped from a full outbox."""
        return self._outbox.lost

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to ``timeout`` seconds until nothing waits in the outbox; tell whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._outbox, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Flush, for ``timeout`` seconds at the most, and let go of the socket. Closing twice does no harm."""
        if self._closed:
            return
        self.flush(timeout)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, message: bytes) -> bool:
        try:
            self._socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _run(self) -> None:
        while not self._closed:
            with self._changed:
                self._changed.wait_for(lambda: self._outbox or self._closed)
                sent = self._send_on()
            if not sent:
                time.sleep(_RETRY_SECONDS)

    def _send_on(self) -> bool:
        """Send a chunk of what waits, small enough that `publish` hardly notices the lock."""
        for _ in range(min(len(self._outbox), _CHUNK)):
            if not self._send(self._outbox.first()):
                return False
            self._outbox.drop_first()
        self._changed.notify_all()
        return True
