"""The ZeroMQ PULL socket that receives trades, and the limit on the memory that senders can occupy."""

import errno
import logging
import os
import socket
import sys
import time
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import zmq

from metrics_sidecar.curve import Gate, Keys
from metrics_sidecar.settings import TCP, try_bind

MEMORY_LIMIT = 512 * 2**20

# Where a container sees its own limit: cgroup v2, and v1.
_CONTAINER_LIMITS = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
_MAX_FRAME = 2 * 2**20
# A batch is large enough to spread its fixed cost, and small enough to be read in a few milliseconds.
BATCH_FRAMES = 1_024
_BATCH_BYTES = 2**18
# Sizes are summed for this many frames at once. Summing after each frame would add a tenth to the cost of a trade.
_CHUNK = 16
# Per sender, in messages. Publishers send up to 64 KiB in a message.
_HIGH_WATER_MARK = 128
_CHECK_INTERVAL = 0.02
# An int: pyzmq would convert the enum member in every call.
_DONTWAIT = int(zmq.DONTWAIT)

log = logging.getLogger(__name__)


class BindError(Exception):
    """The endpoint cannot be bound. ``cause`` and ``remedy`` are for the user."""

    def __init__(self, number: int) -> None:
        if number == errno.EADDRINUSE:
            self.cause = "another program listens there"
            self.remedy = "Stop it (another sidecar?), or choose another port"
        else:
            self.cause = os.strerror(number)
            self.remedy = "Use an address of this machine, such as tcp://0.0.0.0:5555"
        super().__init__(self.cause)


class Inlet:
    """A bound PULL socket.

    ZeroMQ limits the size of a frame and the number of queued messages, but not the number of frames in a message. When
    the process has grown by more than ``memory_limit`` bytes, or by three quarters of what its container still allowed
    at the start, `relieve` closes all connections and drops what they queued; publishers resend tracked trades. If that
    does not free the memory, the limit is set anew. This requires Linux's ``/proc``; elsewhere the memory is not
    limited.

    Args:
        endpoint: the ZeroMQ endpoint to bind, such as ``tcp://0.0.0.0:5555``.
        wake: a socket that ends `wait` when it becomes readable.
        memory_limit: allowed growth of the process, in bytes.
        keys: the keys that may send. None: no encryption, everyone may send.

    Raises:
        BindError: the endpoint cannot be bound.
    """

    def __init__(
        self, endpoint: str, wake: socket.socket, memory_limit: int = MEMORY_LIMIT, keys: Keys | None = None
    ) -> None:
        self._wake = wake
        self._gate = Gate(keys) if keys else None
        self._growth = memory_limit
        self._limit = self._new_limit()
        self._next_check_at = 0.0
        self.endpoint = endpoint
        self._bind()

    def _bind(self) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PULL)
        self._socket.set(zmq.RCVHWM, _HIGH_WATER_MARK)
        # ZeroMQ closes the connection of a peer that sends a larger frame.
        self._socket.set(zmq.MAXMSGSIZE, _MAX_FRAME)
        self._socket.set(zmq.IPV6, "[" in self.endpoint)
        if self._gate:
            self._gate.guard(self._socket)
        try:
            self._socket.bind(self.endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise BindError(error.errno or 0) from None
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._wake, zmq.POLLIN)
        for handshakes in self._gate.sockets if self._gate else ():
            self._poller.register(handshakes, zmq.POLLIN)

    @property
    def refused(self) -> int:
        """Number of refused frames and failed handshakes. 0 without CURVE."""
        return self._gate.refused if self._gate else 0

    def receive(self) -> list[bytes]:
        """Return up to a batch of the frames that have arrived, without waiting."""
        if self._gate:
            return self._gate.receive(BATCH_FRAMES, _BATCH_BYTES)
        frames: list[bytes] = []
        size = 0
        with suppress(zmq.Again):
            while len(frames) < BATCH_FRAMES and size < _BATCH_BYTES:
                # `extend` keeps the frames received before `zmq.Again` is raised.
                frames.extend(map(self._socket.recv, repeat(_DONTWAIT, _CHUNK)))
                size += sum(map(len, frames[-_CHUNK:]))
        return frames

    def wait(self, seconds: float) -> bool:
        """Wait until a frame arrives or ``wake`` is readable. False after ``seconds`` without either."""
        return bool(self._poller.poll(int(seconds * 1000)))

    def _new_limit(self) -> int:
        resident = _resident_bytes()
        return resident + min(self._growth, (_container_limit() - resident) * 3 // 4)

    def relieve(self) -> None:
        """Close all connections, and drop what they queued, if the process exceeds its memory limit.

        Raises:
            BindError: another program bound the endpoint in the meantime.
        """
        now = time.monotonic()
        if now < self._next_check_at:
            return
        self._next_check_at = now + _CHECK_INTERVAL
        if _resident_bytes() < self._limit:
            return
        log.warning("memory limit exceeded: closing all connections; publishers resend tracked trades")
        self.close()
        self._bind()
        # If sessions use the memory and not the queues, closing the connections again would not help either.
        if _resident_bytes() >= self._limit:
            self._limit = self._new_limit()

    def close(self) -> None:
        """Unbind. Returns when ZeroMQ has freed its queues. Can be called again."""
        if self._gate:
            self._gate.close()
        self._socket.close(linger=0)
        self._context.term()


def require_bindable(endpoint: str) -> None:
    """Check that a TCP endpoint can be bound, without listening, so that no publisher connects to the check.

    Raises:
        BindError: the endpoint cannot be bound.
    """
    tcp = TCP.fullmatch(endpoint)
    if not tcp:
        return
    try:
        try_bind("0.0.0.0" if tcp["host"] == "*" else tcp["host"].strip("[]"), int(tcp["port"]))
    except socket.gaierror:
        pass  # It may be the name of a network interface, which ZeroMQ accepts.
    except OSError as error:
        raise BindError(error.errno or 0) from None


def _container_limit() -> int:
    """The bytes of memory that the container of this process may use. Huge if there is no limit."""
    for file in _CONTAINER_LIMITS:
        try:
            limit = file.read_text().strip()
        except OSError:
            continue
        return sys.maxsize if limit == "max" else int(limit)
    return sys.maxsize


def _resident_bytes() -> int:
    """The resident memory of this process. 0 without ``/proc``."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
