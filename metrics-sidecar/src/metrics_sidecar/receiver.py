"""The way in: takes messages off a ZeroMQ PULL socket and enters them in the journal.

A thread of its own does so as they come, and a scrape before it is answered.
"""

import errno
import logging
import os
import select
import socket
import threading
import time
from collections import Counter
from contextlib import suppress

import msgspec
import zmq

from metrics_sidecar.journal import Journal
from metrics_sidecar.messages import MAX_BYTES, REASONS, Message, Reason, Rejected, decode, decode_tracked
from metrics_sidecar.settings import TCP, SettingError, try_bind

_BATCH = 1000
# An enumeration's member takes longer to become a number.
_DONTWAIT = int(zmq.DONTWAIT)
# So many session names are remembered as examined.
_SESSIONS = 10_000
_POLL_MS = 50
_LOG_INTERVAL = 1.0
# A publisher that goes on and on must not keep a stop from ending.
_STOP_SECONDS = 1.0

log = logging.getLogger(__name__)


class Receiver:
    """Binds at once, receives from `start` to `stop`.

    Args:
        endpoint: where to bind, such as ``tcp://0.0.0.0:5555``.
        journal: where messages are entered.

    Raises:
        SettingError: the endpoint cannot be bound.
    """

    def __init__(self, endpoint: str, journal: Journal) -> None:
        self._journal = journal
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._sessions: set[str] = set()
        self._logged_at: dict[Reason, float] = {}
        self._unlogged: Counter[Reason] = Counter()
        self._entered = 0
        self.rejected: dict[Reason, int] = dict.fromkeys(REASONS, 0)
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        # A larger message costs its sender the connection instead of this process its memory.
        self._socket.setsockopt(zmq.MAXMSGSIZE, 256 * MAX_BYTES)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise _cannot_bind(endpoint, error.errno or 0) from None
        self.endpoint: str = self._socket.get_string(zmq.LAST_ENDPOINT)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take what has already arrived, then unbind."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    @property
    def problem(self) -> str:
        """Why nothing is received; empty while the thread runs and its socket is bound."""
        if self._thread.is_alive():
            return ""
        return "the receiving thread is not running"

    def _run(self) -> None:
        arrivals = select.poll()
        arrivals.register(self._socket.fileno(), select.POLLIN)
        while not self._stopping.is_set():
            self._journal.let_readers_pass()
            self._journal.commit_when_due()
            if self._journal.problem:
                self._stopping.wait(_POLL_MS / 1000)
            elif self.receive() < _BATCH:
                arrivals.poll(_POLL_MS)
        # ZeroMQ hands over what has arrived a little at a time: only a pause tells that there is no more.
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline and not self._journal.problem and (self.receive() or arrivals.poll(_POLL_MS)):
            continue

    @property
    def received(self) -> int:
        """Messages taken off the socket."""
        return self._entered + sum(self.rejected.values())

    def receive(self) -> int:
        """Take what is there, up to one batch; return how many messages that were.

        Any thread may call it until `stop`. While nothing can be committed nothing is taken.
        """
        # The lock guards the socket, and what a scrape must not see halfway.
        with self._journal.lock:
            if self._journal.problem:
                return 0
            before = self.received
            if messages := self._drain():
                self._entered += len(messages)
                self._journal.enter(messages, time.time())
            return self.received - before

    def _drain(self) -> list[Message]:
        """The messages that are there and not rejected."""
        messages: list[Message] = []
        recv, sessions = self._socket.recv, self._sessions
        with suppress(zmq.Again):
            for _ in range(_BATCH):
                frame = recv(_DONTWAIT)
                message: Message | None
                try:
                    message = decode_tracked(frame)
                    if message.session not in sessions or len(frame) > MAX_BYTES:
                        message = self._examine(frame)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    message = self._examine(frame)
                if message:
                    messages.append(message)
        return messages

    def _examine(self, frame: bytes) -> Message | None:
        """The message in a frame, unless it is rejected. The next trades of its session need no such look."""
        try:
            self._require_one_frame()
            message = decode(frame)
        except Rejected as rejection:
            self.rejected[rejection.reason] += 1
            self._log(rejection, frame)
            return None
        if message.seq:
            if len(self._sessions) >= _SESSIONS:
                self._sessions.clear()
            self._sessions.add(message.session)
        return message

    def _require_one_frame(self) -> None:
        """Take the further frames of a message, if there are any.

        pyzmq needs longer to tell than all else that is done with a message takes.

        Raises:
            Rejected: there were.
        """
        if self._socket.getsockopt(zmq.RCVMORE):
            frames = 1 + len(self._socket.recv_multipart())
            raise Rejected("multipart", f"{frames} frames, a message is one")

    def _log(self, rejection: Rejected, frame: bytes) -> None:
        reason, now = rejection.reason, time.monotonic()
        if now - self._logged_at.get(reason, -_LOG_INTERVAL) < _LOG_INTERVAL:
            self._unlogged[reason] += 1
            return
        unlogged = self._unlogged.pop(reason, 0)
        more = f" (and {unlogged} more since the last such line)" if unlogged else ""
        log.warning("rejected %.200s: %r%s", rejection, frame[:80], more)
        self._logged_at[reason] = now


def require_bindable(endpoint: str) -> None:
    """Bind a TCP endpoint and let go, without a socket that a publisher could connect to.

    Raises:
        SettingError: the endpoint cannot be bound.
    """
    tcp = TCP.fullmatch(endpoint)
    if not tcp:
        return
    try:
        try_bind("0.0.0.0" if tcp["host"] == "*" else tcp["host"].strip("[]"), int(tcp["port"]))
    except socket.gaierror:
        pass  # perhaps the name of a network interface, which ZeroMQ knows
    except OSError as error:
        raise _cannot_bind(endpoint, error.errno or 0) from None


def _cannot_bind(endpoint: str, number: int) -> SettingError:
    if number == errno.EADDRINUSE:
        cause, way_out = "another program listens there", "Stop it (another side-car?), or choose another port"
    else:
        cause, way_out = os.strerror(number), "Use an address of this machine, such as tcp://0.0.0.0:5555"
    return SettingError("SIDECAR_ZMQ_BIND", endpoint, cause, way_out)
