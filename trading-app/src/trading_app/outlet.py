"""The ZeroMQ PUSH socket that sends trades."""

import logging
import sys
import time
from contextlib import ExitStack
from typing import NamedTuple

import zmq

REOPEN_SECONDS = 0.5
# Frames that the socket queues. They cannot be taken back when the window rewinds.
_SEND_QUEUE = 16
# One failure is normal: a sidecar may be killed during a handshake.
_NOTABLE_FAILURES = 3
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH

log = logging.getLogger(__name__)


class Keys(NamedTuple):
    """The publisher's own key pair and the sidecar's public key, encoded in Z85."""

    public: bytes
    secret: bytes
    server: bytes


class Outlet:
    """A PUSH socket that reconnects until the sidecar accepts the connection.

    ZeroMQ stops reconnecting when a handshake fails, for example for a CURVE key that is not allowed yet. `mend` opens
    a new socket then.

    Args:
        address: the sidecar's ZeroMQ address.
        keys: the CURVE keys, or None to send without encryption.

    Raises:
        ValueError: ``address`` is not a ZeroMQ address.
        zmq.ZMQError: ZeroMQ cannot open its sockets, for example because this process has too many open files.
    """

    def __init__(self, address: str, keys: Keys | None) -> None:
        self._address = address
        self._keys = keys
        self._failures = 0
        self._open()

    def send(self, data: bytes) -> bool:
        """Send a frame without waiting. Return False if there is no connection or its queue is full."""
        if self._socket.closed:
            return False
        try:
            self._socket.send(data, zmq.DONTWAIT)
        except zmq.Again:
            return False
        self._failures = 0
        return True

    def wait(self, seconds: float) -> None:
        """Wait up to ``seconds`` until `send` can succeed."""
        if self._socket.closed:
            time.sleep(seconds)
        else:
            self._socket.poll(int(seconds * 1000) + 1, zmq.POLLOUT)

    def mend(self) -> None:
        """Open a new socket if a handshake has failed, at most once in `REOPEN_SECONDS`.

        Raises:
            zmq.ZMQError: ZeroMQ cannot open its sockets. The outlet stays closed, and a later call tries again.
        """
        if time.monotonic() < self._opened_at + REOPEN_SECONDS:
            return
        if self._socket.closed:
            self._open()
            return
        if not self._monitor.poll(0):
            return
        self._failures += 1
        if self._failures == _NOTABLE_FAILURES:
            # The format is that of zmq_socket_monitor(3). pyzmq's parser would import asyncio.
            event = int.from_bytes(self._monitor.recv_multipart()[0][:2], sys.byteorder)
            log.warning("%s refuses the connection: %s. Trades wait in the journal", self._address, self._cause(event))
        self._socket.linger = 0
        self.close()
        self._open()

    def close(self) -> None:
        """Close the socket. ZeroMQ tries for one more second to send the queued frames."""
        # `mend` could not open another one.
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()

    def _cause(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "the sidecar does not allow this publisher's key"
        if self._keys:
            return "its key is not the one in server.key, it does not use CURVE, or it is not a sidecar"
        return "it requires CURVE, or it is not a sidecar"

    def _open(self) -> None:
        self._opened_at = time.monotonic()
        with ExitStack() as opened:
            # The monitor needs two more file descriptors, so it may fail where the socket did not.
            push = opened.enter_context(_push(self._keys, ipv6="[" in self._address))
            monitor = opened.enter_context(push.get_monitor_socket(_FAILURES))
            try:
                push.connect(self._address)
            except (zmq.ZMQError, TypeError) as error:
                raise ValueError(f"not a ZeroMQ address: {self._address} ({error})") from None
            opened.pop_all()
        self._socket, self._monitor = push, monitor


def _push(keys: Keys | None, *, ipv6: bool) -> zmq.Socket[bytes]:
    push: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    # Without a connection the socket queues nothing, so trades wait in the journal.
    push.setsockopt(zmq.IMMEDIATE, 1)
    push.setsockopt(zmq.LINGER, 1000)
    push.setsockopt(zmq.SNDHWM, _SEND_QUEUE)
    push.setsockopt(zmq.IPV6, ipv6)
    # Without heartbeats, a connection to a host that vanished would stay open and swallow frames for many minutes.
    push.setsockopt(zmq.HEARTBEAT_IVL, 1000)
    push.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
    # Stop at the first failed handshake, so that each socket queues one monitor event at most.
    push.setsockopt(zmq.RECONNECT_STOP, zmq.RECONNECT_STOP_HANDSHAKE_FAILED)
    if keys:
        push.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        push.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        push.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
    return push
