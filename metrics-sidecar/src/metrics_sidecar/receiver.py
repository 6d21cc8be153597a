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
from itertools import filterfalse, repeat

import msgspec
import zmq

from metrics_sidecar.journal import Journal
from metrics_sidecar.messages import MAX_BYTES, REASONS, Message, Reason, Rejected, decode, tracked_decoder
from metrics_sidecar.settings import TCP, SettingError, try_bind

_BATCH = 2000
# An enumeration's member takes longer to become a number.
_DONTWAIT = int(zmq.DONTWAIT)
# Past so many known sessions it begins to learn them anew.
_SESSIONS = 1_000
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
        self._unknown: list[str] = []
        self._decode = tracked_decoder(self._sessions)
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
        # What is sent by the one wakes the receiving thread, which waits for the other.
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._arrivals = select.poll()
        self._arrivals.register(self._socket.fileno(), select.POLLIN)
        self._arrivals.register(self._woken, select.POLLIN)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take what has already arrived, then unbind."""
        self._stopping.set()
        if self._thread.is_alive():
            self._wake()
            self._thread.join()
        self._socket.close()
        self._waker.close()
        self._woken.close()

    @property
    def problem(self) -> str:
        """Why nothing is received; empty while the thread runs and its socket is bound."""
        if self._thread.is_alive():
            return ""
        return "the receiving thread is not running"

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._journal.let_readers_pass()
            self._journal.commit_when_due()
            if self._journal.problem:
                self._stopping.wait(_POLL_MS / 1000)
            elif self.receive() < _BATCH:
                self._wait()
        # ZeroMQ hands over what has arrived a little at a time: only a pause tells that there is no more.
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline and not self._journal.problem and (self.receive() or self._wait()):
            continue

    def _wait(self) -> bool:
        """Wait a moment for messages; tell whether something ended the wait."""
        arrived = self._arrivals.poll(_POLL_MS)
        if (self._woken.fileno(), select.POLLIN) in arrived:
            self._woken.recv(4096)
        return bool(arrived)

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            self._waker.send(b"\0")

    @property
    def received(self) -> int:
        """Messages taken off the socket."""
        return self._entered + sum(self.rejected.values())

    def catch_up(self) -> None:
        """Take what is there, up to one batch. Any thread may call it until `stop`."""
        if self.receive() >= _BATCH:
            # ZeroMQ's file descriptor has told of the rest already, and will not again.
            self._wake()

    def receive(self) -> int:
        """Take what is there, up to one batch; return how many messages that were.

        Beside the thread others use `catch_up`. While nothing can be committed nothing is taken.
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
        frames: list[bytes] = []
        messages: list[Message | None] = []
        # Each is decoded before the next is received: pyzmq tells only of the last one whether more belong to it.
        # append() returns None, so none is filtered out.
        received = filterfalse(frames.append, map(self._socket.recv, repeat(_DONTWAIT, _BATCH)))
        with suppress(zmq.Again):
            while len(frames) < _BATCH:
                try:
                    # It keeps what came before an exception.
                    messages.extend(map(self._decode, received))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    messages.append(self._examine(frames[-1]))
                    # It may have been large.
                    frames[-1] = b""
        # A frame that is too large is read once more, to be rejected.
        return [
            message
            for message, frame in zip(messages, frames, strict=True)
            if message and (len(frame) <= MAX_BYTES or self._read(frame))
        ]

    def _examine(self, frame: bytes) -> Message | None:
        """The message in the frame received last, unless it is rejected."""
        try:
            self._require_one_frame()
        except Rejected as rejection:
            self._reject(rejection, frame)
            return None
        message = self._read(frame)
        if message and message.seq and message.session not in self._sessions:
            self._learn(message.session)
        return message

    def _read(self, frame: bytes) -> Message | None:
        try:
            return decode(frame)
        except Rejected as rejection:
            self._reject(rejection, frame)
            return None

    def _learn(self, session: str) -> None:
        """Note that a trade of this session had to be examined. In time, plain trades of it need not be."""
        self._unknown.append(session)
        # A decoder takes the longer to make the more sessions it knows, so many trades pass before the next is made.
        if len(self._unknown) > len(self._sessions):
            if len(self._sessions) >= _SESSIONS:
                self._sessions.clear()
            self._sessions.update(self._unknown)
            self._unknown.clear()
            self._decode = tracked_decoder(self._sessions)

    def _require_one_frame(self) -> None:
        """Take the further frames of a message, if there are any.

        pyzmq needs longer to tell than all else that is done with a message takes.

        Raises:
            Rejected: there were.
        """
        if self._socket.getsockopt(zmq.RCVMORE):
            frames = 1 + len(self._socket.recv_multipart())
            raise Rejected("multipart", f"{frames} frames, a message is one")

    def _reject(self, rejection: Rejected, frame: bytes) -> None:
        self.rejected[rejection.reason] += 1
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
