"""The thread that talks to the sidecar: it sends the journal's trades until they are committed."""

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
# The longest sleep. A signal may interrupt publish() before it wakes the thread.
_IDLE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Sender:
    """Owns the PUSH socket and the HTTP connection, and closes them and the journal when it stops.

    Args:
        journal: the trades to send.
        address: the sidecar's ZeroMQ address.
        sidecar_url: the sidecar's HTTP address, which serves the cursors.
        keys: the CURVE keys, or None to send without encryption.

    Attributes:
        sleeps: whether the thread needs `wake` to send the next trade soon.

    Raises:
        ValueError: an address is invalid.
    """

    def __init__(self, journal: Journal, address: str, sidecar_url: str, keys: Keys | None) -> None:
        # Importing http.client takes longer than importing the rest of the library.
        from trading_app.cursor import CursorClient  # noqa: PLC0415

        self._client = CursorClient(sidecar_url)
        self._outlet = Outlet(address, keys)
        self._where = f"trades go to {address}; cursors come from {sidecar_url}"
        self._journal = journal
        self._window = Window(journal)
        self._frame: Frame | None = None
        self._state_id = ""
        self._must_rewind = False
        self._logged: set[str] = set()
        self._ask_at = 0.0
        self._moved_at = time.monotonic()
        self._resend_seconds = RESEND_SECONDS
        self._stop_at = inf
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self.sleeps = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()
        _senders.add(self)

    def wake(self) -> None:
        """Wake the thread to look for trades. Cheap enough to be called for each trade."""
        self.sleeps = False
        self._wakeups.put(None)

    def stop(self, timeout: float) -> None:
        """Make the thread close everything once all is committed, or after ``timeout`` seconds. Returns at once."""
        self._stop_at = min(self._stop_at, time.monotonic() + timeout)
        self._wakeups.put(None)

    def join(self) -> None:
        """Wait until the thread has closed everything."""
        self._thread.join()

    def disown(self) -> None:
        """In a forked process, leave the journal to the parent, which runs the thread."""
        self._journal.disown(f"this publisher belongs to process {os.getppid()}; make one after the fork")

    def _run(self) -> None:
        try:
            while not self._is_done():
                try:
                    self._work()
                except (OSError, OutboxError, MemoryError, zmq.ZMQError) as error:
                    problem = str(error) or "out of memory"
                    self._log_once(problem, f"{problem}; trying again")
                    self._must_rewind = True
                    time.sleep(_PAUSE_SECONDS)
        except BaseException as error:
            self._journal.refusal = f"the sending thread failed: {error!r}"
            raise
        finally:
            self._close()

    def _work(self) -> None:
        """Send trades, fetch cursors, tidy the journal, sleep.

        The first call only fetches cursors: trades that an earlier process left may be committed already.
        """
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
        """Send until no trade is left, the window is full, or the time is ``until``."""
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
        """Wait for a trade, or until it is time to fetch the next cursor."""
        if self._window.is_full:
            self._wait(until - time.monotonic())
            return
        self.sleeps = True
        # A trade published before `sleeps` was set did not wake this thread.
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
        # If there is no room for the next segment, publish() reports that once it needs one.
        with suppress(OutboxError):
            self._journal.tidy()

    def _ask(self) -> None:
        """Fetch the cursors, session by session, and rewind if trades do not get committed."""
        while not self._journal.is_idle:
            session = self._journal.head.session
            try:
                cursor = self._client.ask(session)
            except Unreachable as error:
                self._must_rewind = True
                if time.monotonic() - self._moved_at >= RESEND_SECONDS:
                    self._warn("the sidecar does not answer", f": {error}")
                return
            self._check_state(cursor.state_id)
            newest, next_seq = self._journal.newest
            if session == newest and cursor.next_seq > next_seq:
                self._begin_new_session(session, cursor.next_seq)
                return
            moved = self._journal.commit(session, cursor.next_seq)
            self._window.acknowledge()
            self._resend(session, cursor.next_seq, moved=moved)
            if not moved or self._journal.head.session == session:
                return

    def _begin_new_session(self, session: str, next_seq: int) -> None:
        log.error(
            "session %s: the sidecar expects trade %d, which was never published. Another publisher has used this"
            " session. Pending trades are sent in a new one",
            session,
            next_seq,
        )
        self._journal.renumber()
        self._rewind(time.monotonic(), session, 1)

    def _check_state(self, state_id: str) -> None:
        if self._state_id and state_id != self._state_id:
            log.warning("the sidecar has another state file than before; %s", self._where)
            self._must_rewind = True
        self._state_id = state_id

    def _resend(self, session: str, next_seq: int, *, moved: bool) -> None:
        now = time.monotonic()
        if moved:
            self._moved_at, self._resend_seconds = now, RESEND_SECONDS
            self._logged.clear()
        if self._must_rewind:
            self._rewind(now, session, next_seq)
        elif not self._window.is_empty and now - self._moved_at >= self._resend_seconds:
            self._resend_seconds = min(2 * self._resend_seconds, MAX_RESEND_SECONDS)
            self._warn("the sidecar answers, but its cursor does not move")
            self._rewind(now, session, next_seq)
        self._must_rewind = False

    def _warn(self, cause: str, detail: str = "") -> None:
        """Log that no trade is committed."""
        seconds = time.monotonic() - self._moved_at
        self._log_once(cause, f"no trade was committed in {seconds:.0f} s: {cause}{detail}")

    def _log_once(self, cause: str, line: str) -> None:
        """Log a line, once for each cause until a trade is committed."""
        if cause not in self._logged:
            log.warning("%s; %s", line, self._where)
            self._logged.add(cause)

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
    """Deliver the trades of publishers that are still open when the interpreter exits."""
    senders = list(_senders)
    for sender in senders:
        sender.stop(EXIT_SECONDS)
    for sender in senders:
        sender.join()


os.register_at_fork(after_in_child=_disown_all)
atexit.register(_stop_all)
