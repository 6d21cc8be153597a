"""The ZeroMQ PUSH socket where trades leave."""

import logging
import sys
import time
from typing import NamedTuple

import zmq

REOPEN_SECONDS = 0.5
# Frames in the socket. What waits there cannot be taken back when the journal rewinds.
_SEND_QUEUE = 16
# A sidecar that is killed in the middle of a handshake makes one fail.
_NOTABLE_FAILURES = 3
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH

log = logging.getLogger(__name__)


class Keys(NamedTuple):
    """The publisher's own key pair and the sidecar's public key, encoded in Z85."""

    public: bytes
    secret: bytes
    server: bytes


class Outlet:
    """A PUSH socket that connects, and connects again, until the sidecar takes it.

    ZeroMQ gives up for good where a handshake fails, with CURVE for a key that is not allowed yet. `mend` does not.

    Args:
        address: where the sidecar takes trades.
        keys: to send with CURVE; None to send without encryption.

    Raises:
        ValueError: ``address`` is not a ZeroMQ address.
    """

    def __init__(self, address: str, keys: Keys | None) -> None:
        self._address = address
        self._keys = keys
        self._failures = 0
        self._open()

    def send(self, data: bytes) -> bool:
        """Send a frame without waiting; False if there is no connection, or too much waits in it."""
        if self._socket.closed:
            return False
        try:
            self._socket.send(data, zmq.DONTWAIT)
        except zmq.Again:
            return False
        self._failures = 0
        return True

    def wait(self, seconds: float) -> None:
        """Wait until it takes a frame, at most so long."""
        if self._socket.closed:
            time.sleep(seconds)
        else:
            self._socket.poll(int(seconds * 1000) + 1, zmq.POLLOUT)

    def mend(self) -> None:
        """Open another socket if the handshake of this one has failed, not too soon."""
        if time.monotonic() < self._opened_at + REOPEN_SECONDS:
            return
        if self._socket.closed:
            self._open()
            return
        if not self._monitor.poll(0):
            return
        self._failures += 1
        if self._failures == _NOTABLE_FAILURES:
            # As in zmq_socket_monitor(3). Importing pyzmq's parser would import asyncio.
            event = int.from_bytes(self._monitor.recv_multipart()[0][:2], sys.byteorder)
            log.warning("%s does not take the connection; trades wait: %s", self._address, self._cause(event))
        self._socket.linger = 0
        self.close()
        self._open()

    def close(self) -> None:
        """Close it. What waits in it is sent for a second more."""
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()

    def _cause(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "this publisher's key is not allowed there"
        if self._keys:
            return "another server key than server.key, no CURVE, or no sidecar"
        return "CURVE is needed there, or it is no sidecar"

    def _open(self) -> None:
        self._opened_at = time.monotonic()
        self._socket = _push(self._keys, ipv6="[" in self._address)
        self._monitor = self._socket.get_monitor_socket(_FAILURES)
        try:
            self._socket.connect(self._address)
        except (zmq.ZMQError, TypeError) as error:
            self.close()
            raise ValueError(f"not a ZeroMQ address: {self._address} ({error})") from None


def _push(keys: Keys | None, *, ipv6: bool) -> zmq.Socket[bytes]:
    push: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    # Without a connection the socket takes nothing: what waits, waits in the journal.
    push.setsockopt(zmq.IMMEDIATE, 1)
    push.setsockopt(zmq.LINGER, 1000)
    push.setsockopt(zmq.SNDHWM, _SEND_QUEUE)
    push.setsockopt(zmq.IPV6, ipv6)
    # A host that vanished without a word would keep the connection, and what is sent into it, for many minutes.
    push.setsockopt(zmq.HEARTBEAT_IVL, 1000)
    push.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
    # After some failures it would give up anyway. With this each is one event, however long nobody reads them.
    push.setsockopt(zmq.RECONNECT_STOP, zmq.RECONNECT_STOP_HANDSHAKE_FAILED)
    if keys:
        push.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        push.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        push.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
    return push
