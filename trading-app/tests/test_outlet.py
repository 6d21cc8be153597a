"""The PUSH socket: it opens again after a refused connection, even if there are no descriptors for a while."""

import socket
import subprocess
import sys

import pytest
import zmq
from app_process import eventually

from trading_app.outlet import Outlet

# A process of its own: the limit must not affect other tests, nor their threads the number of free descriptors.
SCRIPT = """
import os, resource, sys, time
import zmq
import trading_app.outlet
from trading_app.outlet import Outlet

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def settled():
    # ZeroMQ closes its sockets in the background.
    seen = [descriptors()]
    while seen[-20:] != 20 * seen[-1:]:
        time.sleep(0.02)
        seen.append(descriptors())
    return seen[-1]

zmq.Context.instance().socket(zmq.PUSH).close()
before = settled()
trading_app.outlet.REOPEN_SECONDS = 0.0
outlet = Outlet("tcp://127.0.0.1:9", None)
outlet.close()
assert settled() == before
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
taken = []
while True:
    try:
        taken.append(os.dup(0))
    except OSError:
        break
for _ in range(int(sys.argv[1])):
    os.close(taken.pop())
for _ in range(3):
    try:
        outlet.mend()
    except zmq.ZMQError as error:
        print(error)
    time.sleep(0.05)
outlet.close()
for number in taken:
    os.close(number)
outlet.mend()
outlet.close()
outlet.close()
assert settled() == before
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("free", [0, 1, 2])
def test_an_outlet_opens_again_once_there_are_descriptors(free: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(free)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["Too many open files"] * 3


def test_a_refused_outlet_sends_after_sockets_could_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading_app.outlet.REOPEN_SECONDS", 0.0)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    with context.socket(zmq.PULL) as strict:
        strict.curve_server = True
        strict.curve_secretkey = zmq.curve_keypair()[1]
        port = strict.bind_to_random_port("tcp://127.0.0.1")
        outlet = Outlet(f"tcp://127.0.0.1:{port}", None)
        with monkeypatch.context() as broken:
            broken.setattr("zmq.Socket.get_monitor_socket", raise_no_sockets)
            assert eventually(lambda: not is_mended(outlet))
            assert not is_mended(outlet)
            assert not outlet.send(b"one")
    with context.socket(zmq.PULL) as open_to_all:
        assert eventually(lambda: is_bound(open_to_all, port))

        def is_sent() -> bool:
            return is_mended(outlet) and outlet.send(b"two")

        assert eventually(is_sent)
        assert open_to_all.recv() == b"two"
    outlet.close()


def test_a_connection_to_a_host_that_vanished_is_replaced() -> None:
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04PULL"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        outlet = Outlet(f"tcp://127.0.0.1:{listening.getsockname()[1]}", None)
        silent, _ = listening.accept()
        with silent:
            # A handshake as ZMTP 3.0 defines it, and nothing after it.
            silent.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready)
            assert eventually(lambda: outlet.send(b"swallowed"))
            listening.accept()[0].close()
        outlet.close()


def is_mended(outlet: Outlet) -> bool:
    """Mend; False if it failed."""
    try:
        outlet.mend()
    except zmq.ZMQError:
        return False
    return True


def is_bound(socket: "zmq.Socket[bytes]", port: int) -> bool:
    """Bind; False if the port is still in use."""
    try:
        socket.bind(f"tcp://127.0.0.1:{port}")
    except zmq.ZMQError:
        return False
    return True


def raise_no_sockets(*_: object) -> None:
    raise zmq.ZMQError(24)
