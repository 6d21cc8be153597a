"""What one client can cost the program: little, and not for long."""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from sidecar_process import MAIN, PROGRAM, Sidecar, eventually

type Start = Callable[..., Sidecar]
type Connect = Callable[[Sidecar], socket.socket]

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
IMPATIENT = [sys.executable, "-c", f"from metrics_sidecar import server; server.REQUEST_SECONDS = 0.5; {MAIN}"]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens connections, and closes them after the test."""
    with ExitStack() as opened:
        yield lambda program: opened.enter_context(socket.create_connection(("127.0.0.1", program.port), timeout=10))


def peak_memory(program: Sidecar) -> int:
    """In bytes."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def ends_within(connection: socket.socket, seconds: float) -> bool:
    """Send a byte now and then, until the other side closes."""
    deadline = time.monotonic() + seconds
    connection.settimeout(0.05)
    while time.monotonic() < deadline:
        try:
            connection.send(b"x")
            if connection.recv(4096) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    "head", [HEAD + b"X: " + b"x" * 100_000 + b"\r\n\r\n", HEAD + b"X: 12345\r\n" * 10_000 + b"\r\n"]
)
def test_a_large_head_is_refused(sidecar: Start, connect: Connect, head: bytes) -> None:
    connection = connect(sidecar())
    connection.sendall(head)
    assert connection.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_an_endless_head_does_not_fill_the_memory(sidecar: Start, connect: Connect) -> None:
    program = sidecar()
    before = peak_memory(program)
    connection = connect(program)
    connection.sendall(HEAD + b"X: ")
    with suppress(ConnectionError):
        for _ in range(200):
            connection.sendall(b"x" * 1024 * 1024)
    assert peak_memory(program) - before < 20e6


@pytest.mark.parametrize("begin", [b"", b"\r\n", HEAD + b"X: ", HEAD + b"Content-Length: 1000\r\n\r\n"])
def test_a_request_that_trickles_is_ended(sidecar: Start, connect: Connect, begin: bytes) -> None:
    program = sidecar(IMPATIENT)
    connection = connect(program)
    connection.sendall(begin)
    if begin.endswith(b"\r\n\r\n"):
        connection.recv(4096)
    assert ends_within(connection, 5.0)


def test_a_connection_that_says_nothing_is_ended(sidecar: Start, connect: Connect) -> None:
    assert connect(sidecar(IMPATIENT)).recv(1) == b""


def test_a_connection_serves_one_request_after_another(sidecar: Start) -> None:
    with closing(HTTPConnection("127.0.0.1", sidecar(IMPATIENT).port, timeout=10)) as connection:
        connection.connect()
        first = connection.sock.getsockname()
        for _ in range(12):
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b'{"status":"ok"}'
            time.sleep(0.1)
        assert connection.sock.getsockname() == first


@pytest.mark.parametrize("arguments", [[], ["--reload"]])
def test_an_answer_is_not_held_back(sidecar: Start, arguments: list[str]) -> None:
    """Without TCP_NODELAY each takes 40 ms."""
    with closing(HTTPConnection("127.0.0.1", sidecar([*PROGRAM, *arguments]).port, timeout=10)) as connection:
        seconds = []
        for _ in range(21):
            began = time.monotonic()
            connection.request("GET", "/health")
            connection.getresponse().read()
            seconds.append(time.monotonic() - began)
    assert sorted(seconds)[10] < 0.03


def test_idle_connections_keep_nobody_out(sidecar: Start, connect: Connect) -> None:
    few_descriptors = ["sh", "-c", f'ulimit -n 256; exec {sys.executable} -c "{MAIN}"']
    program = sidecar(few_descriptors)
    for _ in range(300):
        connect(program)
    assert program.get("/health")[0] == 200
    assert len(program.output) < 10_000


def test_the_limit_of_descriptors_is_raised(sidecar: Start) -> None:
    program = sidecar(["sh", "-c", f'ulimit -S -n 256; exec {sys.executable} -c "{MAIN}"'])
    limits = Path(f"/proc/{program.pid}/limits").read_text().partition("Max open files")[2].split()
    assert limits[0] == limits[1]


def test_the_same_warning_is_logged_once(sidecar: Start, connect: Connect) -> None:
    program = sidecar()
    for _ in range(50):
        connection = connect(program)
        connection.sendall(b"rubbish\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert program.output.count("Invalid HTTP request") == 1


def test_a_stop_does_not_wait_for_the_rest_of_a_request(sidecar: Start, connect: Connect) -> None:
    program = sidecar()
    connections = [connect(program) for _ in range(3)]
    for connection, begin in zip(connections, (b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\nx"), strict=True):
        connection.sendall(begin)
    assert program.is_up()
    began = time.monotonic()
    program.stop()
    assert time.monotonic() - began < 2.0
    assert "Traceback" not in program.output


def test_an_unknown_host_is_refused(sidecar: Start) -> None:
    program = sidecar()
    for host in "localhost", "127.0.0.1:8001", "[::1]:8001", "metrics-sidecar:8001":
        assert program.get("/metrics", Host=host)[0] == 200, host
    for host, status in {"rebound.example": 421, "a b": 400, "[::1": 400, "user@localhost": 400, "": 400}.items():
        assert program.get("/metrics", Host=host)[0] == status, host
    assert eventually(program.is_up)
