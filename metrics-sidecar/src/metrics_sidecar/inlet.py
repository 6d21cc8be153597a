"""The ZeroMQ PULL socket where trades arrive, and the bound on the memory that senders can take."""

import errno
import logging
import os
import socket
import time
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import zmq

from metrics_sidecar.curve import Gate, Keys
from metrics_sidecar.settings import TCP, try_bind

MEMORY_LIMIT = 512 * 2**20

_MAX_FRAME = 2 * 2**20
# A batch: enough to share its costs, little enough to be read in some milliseconds.
_BATCH_FRAMES = 1_024
_BATCH_BYTES = 2**18
# Frames whose sizes are added up at once: one by one takes a tenth of the time that counting a single trade does.
_CHUNK = 16
# Of each sender: it counts messages, and publishers send up to 64 KiB in each.
_HIGH_WATER_MARK = 128
_GUARD_INTERVAL = 0.1
# An enumeration's member takes longer to become a number.
_DONTWAIT = int(zmq.DONTWAIT)

log = logging.getLogger(__name__)


class BindError(Exception):
    """The endpoint cannot be bound: why, and what to do about it."""

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

    ZeroMQ bounds a frame, and the messages that wait, but not the frames of one message. Where it holds more than
    ``memory_limit`` bytes above what the process had at first, `relieve` drops all of it with the connections; tracked
    trades come again. That takes Linux's ``/proc``: elsewhere the memory is not bounded.

    Args:
        endpoint: where to bind, such as ``tcp://0.0.0.0:5555``.
        wake: a socket that ends `wait` when it becomes readable.
        memory_limit: in bytes.
        keys: those that may send; None for everyone, without encryption.

    Raises:
        BindError: the endpoint cannot be bound.
    """

    def __init__(
        self, endpoint: str, wake: socket.socket, memory_limit: int = MEMORY_LIMIT, keys: Keys | None = None
    ) -> None:
        self._wake = wake
        self._gate = Gate(keys) if keys else None
        self._limit = _resident_bytes() + memory_limit
        self._look_at = 0.0
        self.endpoint = endpoint
        self._bind()

    def _bind(self) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PULL)
        self._socket.set(zmq.RCVHWM, _HIGH_WATER_MARK)
        # A larger frame costs its sender the connection.
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
        for tended in self._gate.sockets if self._gate else ():
            self._poller.register(tended, zmq.POLLIN)

    @property
    def refused(self) -> int:
        """Frames and connections of keys that may not send."""
        return self._gate.refused if self._gate else 0

    def receive(self) -> list[bytes]:
        """The frames that are there, up to a batch."""
        if self._gate:
            return self._gate.receive(_BATCH_FRAMES, _BATCH_BYTES)
        frames: list[bytes] = []
        size = 0
        with suppress(zmq.Again):
            while len(frames) < _BATCH_FRAMES and size < _BATCH_BYTES:
                # It keeps what came before an exception.
                frames.extend(map(self._socket.recv, repeat(_DONTWAIT, _CHUNK)))
                size += sum(map(len, frames[-_CHUNK:]))
        return frames

    def wait(self, seconds: float) -> bool:
        """Wait until something arrives or the wake-up socket is readable; False if neither came in time."""
        return bool(self._poller.poll(int(seconds * 1000)))

    def relieve(self) -> None:
        """Drop what ZeroMQ holds if the process has outgrown its limit.

        Raises:
            BindError: another program has taken the endpoint meanwhile.
        """
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _GUARD_INTERVAL
        if _resident_bytes() < self._limit:
            return
        log.warning("senders took too much memory: closing all connections; tracked trades come again")
        self.close()
        self._bind()

    def close(self) -> None:
        """Unbind. It returns once all that ZeroMQ held is gone."""
        if self._gate:
            self._gate.close()
        self._socket.close(linger=0)
        self._context.term()


def require_bindable(endpoint: str) -> None:
    """Bind a TCP endpoint and release it, without a socket that a publisher could connect to.

    Raises:
        BindError: the endpoint cannot be bound.
    """
    tcp = TCP.fullmatch(endpoint)
    if not tcp:
        return
    try:
        try_bind("0.0.0.0" if tcp["host"] == "*" else tcp["host"].strip("[]"), int(tcp["port"]))
    except socket.gaierror:
        pass  # perhaps the name of a network interface, which ZeroMQ knows
    except OSError as error:
        raise BindError(error.errno or 0) from None


def _resident_bytes() -> int:
    """The resident memory of this process, 0 where there is no ``/proc``."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
