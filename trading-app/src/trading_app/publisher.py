"""The way a program emits trades."""

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from math import inf
from os import PathLike
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

import zmq

from trading_app.client import Unreachable
from trading_app.messages import SIDES, Side, Trade, check_order
from trading_app.outbox import FileOutbox, MemoryOutbox, OutboxError, Session, Status
from trading_app.sidecar import Sidecar

# An enumeration's member takes longer to become a number.
_DONTWAIT = int(zmq.DONTWAIT)
# So many trades wait in the socket at the most, some 20 MB. What does not fit is left to the publisher's own thread,
# which has to wait for the interpreter; what does is sent again after a rewind.
_SEND_QUEUE = 100_000
_ASK_INTERVAL = 0.05
_RESEND_AFTER = 1.0
# How long a socket that takes nothing is left alone, at first.
_PAUSE = 0.001
# So many trades are sent again, or forgotten, each time that the lock is held for it.
_BURST = 50
_CHUNK = 500

log = logging.getLogger(__name__)


class TradePublisher:
    """Emits trades to the side-car, from any number of threads; no call waits for the side-car.

    A trade is kept in the outbox until the side-car has committed it. It goes to the socket in the thread that
    publishes it; a thread of the publisher's own asks what is committed, and sends again what does not arrive.

    Args:
        address: where the side-car takes trades, such as ``tcp://localhost:5555``. It need not be there yet.
        sidecar_url: where it tells what is committed, such as ``http://localhost:8001``.
        outbox: where trades are kept: an outbox, the path of a file, or None for the memory of this process.

    Raises:
        ValueError: ``address`` is not a ZeroMQ address, or ``sidecar_url`` not an HTTP address.
        OutboxError: the outbox file is in use by another process, or cannot be used.
    """

    def __init__(
        self, address: str, *, sidecar_url: str, outbox: MemoryOutbox | str | PathLike[str] | None = None
    ) -> None:
        self._sidecar = Sidecar(sidecar_url)
        self._socket = _connect(address)
        # The send below pyzmq's own, which takes as long again to look for what only draft sockets have.
        self._push = super(zmq.Socket, self._socket).send
        try:
            self._outbox = _open(outbox)
        except OutboxError:
            self._socket.close()
            raise
        # Guards outbox and socket. It is held for a few messages at a time, and while nothing is waited for.
        self._lock = threading.RLock()
        self._delivered = threading.Condition(self._lock)
        # Not an event: Ctrl-C in its set() could leave it locked for good.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._away = False
        self._idle = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def publish(self, side: Side, qty: float = 1.0) -> Trade:
        """Emit one trade of ``qty`` units, dated now. Not for signal handlers, which may run in the middle of it.

        Raises:
            ValueError: the side is unknown, or ``qty`` is not a finite number above 0.
            OutboxError: the outbox file could not take the trade; it was not sent.
            RuntimeError: the publisher is closed.
        """
        # What check_order() would return as it is need not go there.
        if type(side) is not str or side not in SIDES or type(qty) is not float or not 0.0 < qty < inf:  # type: ignore[unreachable]
            side, qty = check_order(side, qty)
        outbox, lock = self._outbox, self._lock
        # What `with` does takes longer than the lock itself. Ctrl-C may come at any step: acquire() is within try, and
        # the lock is one that only its holder can release.
        try:
            lock.acquire()
            if self._closed:
                raise RuntimeError("the publisher is closed")
            if self._idle and self._wake.empty():
                self._wake.put(None)
            trade = outbox.put(side, qty, time.time())
            session = outbox.session
            # One that is not next in its sequence waits for those before it.
            if sent := session.send_seq == trade.seq and not session.gap:
                try:
                    self._push(session.messages[-1], _DONTWAIT)
                    session.send_seq += 1
                except zmq.Again:
                    sent = False
        finally:
            try:  # noqa: SIM105 - suppress() takes as long as the lock
                lock.release()
            except RuntimeError:  # Ctrl-C came while this thread waited for the lock
                pass
        if not sent and self._wake.empty():
            self._wake.put(None)
        return trade

    @property
    def pending(self) -> int:
        """Trades that the side-car has not committed yet, as far as is known."""
        return len(self._outbox)

    @property
    def lost(self) -> int:
        """Trades dropped from a full outbox before they were known to be committed.

        Some of them may have been: what the side-car missed for good is in its ``trades_lost_total``.
        """
        return self._outbox.lost

    def status(self, trade: Trade) -> Status:
        """What became of a trade that this publisher has published; lost means dropped, as in `lost`."""
        with self._lock:
            return self._outbox.status(trade)

    def wait(self, trade: Trade, timeout: float = 5.0) -> Status:
        """Wait up to ``timeout`` seconds until it is known what became of a trade, and return its `status`."""
        with self._lock:
            self._delivered.wait_for(lambda: self._outbox.status(trade) != "waiting", timeout)
            return self._outbox.status(trade)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to ``timeout`` seconds for what is published by now to be committed; tell whether it is."""
        with self._lock:
            ends = [(session, session.next_seq) for session in self._outbox.sessions]
            return self._delivered.wait_for(lambda: all(session.first_seq >= end for session, end in ends), timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Flush, for ``timeout`` seconds at the most, and let go of socket and outbox. Closing twice does no harm.

        What is not committed by then stays in an outbox file, and is lost with an outbox in memory.
        """
        with self._closing:
            if self._socket.closed:
                return
            self.flush(timeout)
            with self._lock:
                self._closed = True
            self._wake.put(None)
            self._thread.join()
            self._sidecar.close()
            self._outbox.close()
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        ask_at = 0.0
        while not self._closed:
            with self._lock:
                self._idle = not self._outbox and not self._closed
            with suppress(Empty):
                self._wake.get(timeout=None if self._idle else _ASK_INTERVAL)
            self._idle = False
            self._send_backlog()
            if time.monotonic() >= ask_at:
                self._settle()
                ask_at = time.monotonic() + _ASK_INTERVAL

    def _send_backlog(self) -> None:
        """Send what waits, for as long as the next question has time."""
        deadline = time.monotonic() + _ASK_INTERVAL
        pause, sent = _PAUSE, 0
        while time.monotonic() < deadline:
            with self._lock:
                turn = self._outbox.due(_BURST)
                if turn is None:
                    return
                session, due = turn
                sent = self._send_all(session, due)
            if sent:
                pause = _PAUSE
            if sent < len(due):
                time.sleep(pause)
                pause *= 2
        if sent:
            # More waits, and need not wait for a trade that wakes this thread.
            self._wake.put(None)

    def _send_all(self, session: Session, messages: Iterable[tuple[int, bytes]]) -> int:
        """Hand messages to the socket for as long as it takes them; return how many it took."""
        sent = 0
        with suppress(zmq.Again):
            for upto, message in messages:
                self._push(message, _DONTWAIT)
                session.sent(upto)
                sent += 1
        return sent

    def _settle(self) -> None:
        """Ask what is committed, forget that, and rewind where nothing moves or the side-car was away."""
        was_away, self._away = self._away, False
        for session in [session for session in self._outbox.sessions if session]:
            if self._closed:
                return
            try:
                next_seq = self._sidecar.next_seq(session.name)
            except Unreachable:
                self._away = True
                return
            now = time.monotonic()
            moves = self._forget(session, next_seq) or not session.in_flight
            session.moved_at = now if moves else min(session.moved_at, now)
            if not session:
                session.moved_at = inf
            elif session.in_flight and (was_away or now - session.moved_at >= _RESEND_AFTER):
                self._rewind(session, next_seq)
                session.moved_at = now

    def _forget(self, session: Session, next_seq: int) -> bool:
        forgotten = 0
        while session.first_seq < next_seq:
            with self._lock:
                count = self._outbox.forget(session, min(next_seq, session.first_seq + _CHUNK))
                self._delivered.notify_all()
            if not count:
                break
            forgotten += count
        return forgotten > 0

    def _rewind(self, session: Session, next_seq: int) -> None:
        with self._lock:
            log.warning("sending %d trades again, from %d on", session.in_flight, session.first_seq)
            session.rewind(next_seq)


def _open(outbox: MemoryOutbox | str | PathLike[str] | None) -> MemoryOutbox:
    if outbox is None:
        return MemoryOutbox()
    return outbox if isinstance(outbox, MemoryOutbox) else FileOutbox(Path(outbox))


def _connect(address: str) -> zmq.Socket[bytes]:
    connected: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    # Without a connection the socket takes nothing: what waits, waits in the outbox.
    connected.setsockopt(zmq.IMMEDIATE, 1)
    connected.setsockopt(zmq.LINGER, 1000)
    connected.setsockopt(zmq.SNDHWM, _SEND_QUEUE)
    # A host that vanished without a word would keep the connection, and what is sent into it, for many minutes.
    connected.setsockopt(zmq.HEARTBEAT_IVL, 1000)
    connected.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
    try:
        connected.connect(address)
    except zmq.ZMQError as error:
        connected.close()
        raise ValueError(f"not a ZeroMQ address: {address} ({error.strerror})") from None
    return connected
