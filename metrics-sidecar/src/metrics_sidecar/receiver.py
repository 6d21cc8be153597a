"""The way in: takes messages off a ZeroMQ PULL socket, in a thread of its own, and enters them in the journal."""

import errno
import logging
import os
import socket
import threading
import time
from collections import Counter

import zmq

from metrics_sidecar.journal import Journal
from metrics_sidecar.messages import MAX_BYTES, REASONS, Message, Reason, Rejected, decode
from metrics_sidecar.settings import TCP, SettingError, try_bind

_BATCH = 1000
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
        self._logged_at: dict[Reason, float] = {}
        self._unlogged: Counter[Reason] = Counter()
        self.received = 0
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
        while not self._stopping.is_set():
            self._journal.commit_when_due()
            if self._journal.problem:
                self._stopping.wait(_POLL_MS / 1000)
            elif self._socket.poll(_POLL_MS):
                self._receive()
        # ZeroMQ hands over what has arrived a little at a time: only a pause tells that there is no more.
        deadline = time.monotonic() + _STOP_SECONDS
        while not self._journal.problem and time.monotonic() < deadline and self._socket.poll(_POLL_MS):
            self._receive()

    def _receive(self) -> None:
        """Take what is there, up to one batch."""
        frames, reasons = self._drain()
        received = len(frames) + len(reasons)
        messages = self._decode(frames, reasons)
        # What a scrape must not see halfway changes under the lock.
        with self._journal.lock:
            self.received += received
            for reason in reasons:
                self.rejected[reason] += 1
            if messages:
                self._journal.enter(messages, time.time())

    def _drain(self) -> tuple[list[bytes], list[Reason]]:
        """The messages that are there: those of one frame, and why the others are rejected."""
        frames: list[bytes] = []
        reasons: list[Reason] = []
        recv, getsockopt = self._socket.recv, self._socket.getsockopt
        try:
            while len(frames) + len(reasons) < _BATCH:
                frame = recv(zmq.NOBLOCK)
                if getsockopt(zmq.RCVMORE):
                    parts = [frame, *self._socket.recv_multipart()]
                    reasons.append("multipart")
                    self._log(Rejected("multipart", f"{len(parts)} frames, a message is one"), frame)
                else:
                    frames.append(frame)
        except zmq.Again:
            pass
        return frames, reasons

    def _decode(self, frames: list[bytes], reasons: list[Reason]) -> list[Message]:
        """The messages of the frames; for each frame that is none, one more in ``reasons``."""
        messages: list[Message] = []
        for frame in frames:
            try:
                messages.append(decode(frame))
            except Rejected as rejection:
                reasons.append(rejection.reason)
                self._log(rejection, frame)
        return messages

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
