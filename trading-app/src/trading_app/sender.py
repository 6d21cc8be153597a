"""The one thread that talks to the sidecar: it sends what the journal holds until that is committed."""

import atexit
import logging
import os
import threading
import time
import weakref
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue

import zmq

from trading_app.journal import Journal
from trading_app.outbox_error import OutboxError
from trading_app.outlet import Keys, Outlet
from trading_app.unreachable import Unreachable
from trading_app.window import Frame, Window

ASK_SECONDS = 0.05
RESEND_SECONDS = 1.0
MAX_RESEND_SECONDS = 30.0
EXIT_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
# A trade whose publish() was interrupted before it could wake the thread waits no longer.
_IDLE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Sender:
    """Owns the PUSH socket and the HTTP connection, and closes them and the journal when it stops.

    Args:
        journal: what to send.
        address: where the sidecar takes trades.
        sidecar_url: where it tells what is committed.
        keys: to send with CURVE; None to send without encryption.

    Attributes:
        sleeps: whether `wake` must be called for the next trade to be sent soon.

    Raises:
        ValueError: an address is not of its kind.
    """

    def __init__(self, journal: Journal, address: str, sidecar_url: str, keys: Keys | None) -> None:
        # http.client takes longer to import than the rest of the library: the first publisher imports it.
        from trading_app.cursor import CursorClient  # noqa: PLC0415

        self._client = CursorClient(sidecar_url)
        self._outlet = Outlet(address, keys)
        self._where = f"trades go to {address}, {sidecar_url} is asked for them"
        self._journal = journal
        self._window = Window(journal)
        self._frame: Frame | None = None
        self._state_id = ""
        self._was_unreachable = False
        self._said_where = False
        self._ask_at = 0.0
        self._moved_at = 0.0
        self._resend_seconds = RESEND_SECONDS
        self._stop_at = inf
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self.sleeps = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()
        _senders.add(self)

    def wake(self) -> None:
        """Let it look for trades. Cheap enough to be called for each."""
        self.sleeps = False
        self._wakeups.put(None)

    def stop(self, timeout: float) -> None:
        """Send and wait for commits for up to ``timeout`` seconds more, then close everything. Does not wait for it."""
        self._stop_at = min(self._stop_at, time.monotonic() + timeout)
        self._wakeups.put(None)

    def join(self) -> None:
        """Wait until everything is closed."""
        self._thread.join()

    def disown(self) -> None:
        """In a process forked from the one that runs the thread: leave everything to that one."""
        self._journal.disown(f"this publisher belongs to process {os.getppid()}; make one after the fork")

    def _run(self) -> None:
        try:
            # What an earlier process has left may be committed.
            self._ask()
            while not self._is_done():
                try:
                    self._work()
                except (OSError, OutboxError, MemoryError, zmq.ZMQError) as error:
                    log.error("%s; trying again", str(error) or "out of memory")  # noqa: TRY400 - not a defect
                    self._was_unreachable = True
                    time.sleep(_PAUSE_SECONDS)
        finally:
            self._close()

    def _work(self) -> None:
        """Send, ask, tidy up, sleep."""
        self._send(until=min(self._ask_at, self._stop_at))
        if time.monotonic() >= self._ask_at:
            self._ask()
            self._outlet.mend()
            self._ask_at = time.monotonic() + ASK_SECONDS
        self._tidy()
        self._sleep(until=self._ask_at)

    def _is_done(self) -> bool:
        return self._stop_at < inf and (self._journal.is_idle or time.monotonic() >= self._stop_at)

    def _send(self, until: float) -> None:
        """Send for as long as there is something, the window is open and the time has not come."""
        if self._window.is_empty:
            self._moved_at = time.monotonic()
        while (left := until - time.monotonic()) > 0:
            self._frame = self._frame or self._window.next_frame()
            if not self._frame:
                return
            if self._outlet.send(self._frame.data):
                self._frame = None
            else:
                self._outlet.wait(left)

    def _sleep(self, until: float) -> None:
        """Wait for a trade, or for the next question where one is due."""
        if self._window.is_full:
            self._wait(until - time.monotonic())
            return
        self.sleeps = True
        # A trade that came just before woke nobody.
        if not (self._frame or self._window.has_unsent):
            idle = self._journal.is_idle and self._stop_at == inf
            self._wait(_IDLE_SECONDS if idle else until - time.monotonic())
            if idle:
                self._ask_at = time.monotonic() + ASK_SECONDS
        self.sleeps = False

    def _wait(self, timeout: float) -> None:
        with suppress(Empty):
            self._wakeups.get(timeout=max(0.0, timeout))

    def _tidy(self) -> None:
        # Without room for the next segment publish() raises this when it needs it.
        with suppress(OutboxError):
            self._journal.tidy()

    def _ask(self) -> None:
        """Ask what is committed, session by session, and rewind where nothing moves."""
        while not self._journal.is_idle:
            session = self._journal.head.session
            try:
                cursor = self._client.ask(session)
            except Unreachable:
                self._was_unreachable = True
                return
            self._check_state(cursor.state_id)
            newest, next_seq = self._journal.newest
            if session == newest and cursor.next_seq > next_seq:
                self._begin_again(session, cursor.next_seq)
                return
            moved = self._journal.commit(session, cursor.next_seq)
            self._window.acknowledge()
            self._resend(session, cursor.next_seq, moved=moved)
            if not moved or self._journal.head.session == session:
                return

    def _begin_again(self, session: str, next_seq: int) -> None:
        log.error(
            "session %s: the sidecar expects trade %d, which was never published. Somebody else has used this session;"
            " what waits is sent in a new one",
            session,
            next_seq,
        )
        self._journal.renumber()
        self._rewind(time.monotonic(), session, 1)

    def _check_state(self, state_id: str) -> None:
        if self._state_id and state_id != self._state_id:
            log.warning("the sidecar has another state file than before; %s", self._where)
            self._was_unreachable = True
        self._state_id = state_id

    def _resend(self, session: str, next_seq: int, *, moved: bool) -> None:
        now = time.monotonic()
        if moved:
            self._moved_at, self._resend_seconds, self._said_where = now, RESEND_SECONDS, False
        if self._was_unreachable:
            self._rewind(now, session, next_seq)
        elif not self._window.is_empty and now - self._moved_at >= self._resend_seconds:
            self._resend_seconds = min(2 * self._resend_seconds, MAX_RESEND_SECONDS)
            if not self._said_where:
                log.warning("no trade was committed in %.0f s; %s", now - self._moved_at, self._where)
                self._said_where = True
            self._rewind(now, session, next_seq)
        self._was_unreachable = False

    def _rewind(self, now: float, session: str, next_seq: int) -> None:
        self._window.rewind(session, next_seq)
        self._frame = None
        self._moved_at = now

    def _close(self) -> None:
        self._journal.close()
        self._client.close()
        self._outlet.close()


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


def _disown_all() -> None:
    for sender in _senders:
        sender.disown()
    _senders.clear()


def _stop_all() -> None:
    """Deliver what an interpreter that exits has not closed."""
    senders = list(_senders)
    for sender in senders:
        sender.stop(EXIT_SECONDS)
    for sender in senders:
        sender.join()


os.register_at_fork(after_in_child=_disown_all)
atexit.register(_stop_all)
