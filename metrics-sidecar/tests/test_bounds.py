"""The limits on what one HTTP client can cost the sidecar."""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from sidecar_process import MAIN, MEASURED, PROGRAM, Sidecar

pytestmark = pytest.mark.slow

type Start = Callable[..., Sidecar]
type Connect = Callable[[Sidecar], socket.socket]

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
REQUEST_SECONDS = 0.5
IMPATIENT = f"from metrics_sidecar import server; server.REQUEST_SECONDS = {REQUEST_SECONDS}; {MAIN}"


def with_limit(limit: str) -> list[str]:
    """The program, started by a shell that lowers a limit on file descriptors."""
    return ["sh", "-c", f'ulimit {limit}; exec {sys.executable} -c "{MAIN}"']


def run_in(folder: Path, program: list[str]) -> Iterator[Sidecar]:
    sidecar = Sidecar(folder, program, **MEASURED)
    sidecar.start()
    yield sidecar
    sidecar.stop()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that all tests of this module may share. Its soft limit of file descriptors starts at 256."""
    yield from run_in(tmp_path_factory.mktemp("program"), with_limit("-S -n 256"))


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A shared sidecar that waits `REQUEST_SECONDS` for a request."""
    yield from run_in(tmp_path_factory.mktemp("impatient"), [sys.executable, "-c", IMPATIENT])


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens connections and closes them after the test."""
    with ExitStack() as opened:
        yield lambda program: opened.enter_context(socket.create_connection(("127.0.0.1", program.port), timeout=10))


def closes_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side closes the connection, although a byte is sent every 50 ms."""
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
    "head",
    [
        pytest.param(HEAD + b"X: " + b"x" * 100_000 + b"\r\n\r\n", id="one large header"),
        pytest.param(HEAD + b"X: 12345\r\n" * 10_000 + b"\r\n", id="many headers"),
    ],
)
def test_a_head_over_the_limit_is_refused_with_431(program: Sidecar, connect: Connect, head: bytes) -> None:
    connection = connect(program)
    connection.sendall(head)
    assert connection.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_a_head_below_the_limit_is_accepted(program: Sidecar, connect: Connect) -> None:
    connection = connect(program)
    connection.sendall(HEAD + b"X: " + b"x" * 60_000 + b"\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_the_limit_on_the_head_applies_to_each_request(program: Sidecar, connect: Connect) -> None:
    connection = connect(program)
    for _ in range(3):
        connection.sendall(HEAD + b"X: " + b"x" * 30_000)
        assert program.is_up()  # By now the server has read the incomplete head.
        connection.sendall(b"\r\n\r\n")
        response = b""
        while not response.endswith(b'{"status":"ok"}'):
            response += connection.recv(4096)
            assert response.startswith(b"HTTP/1.1 200 ")


def test_an_endless_head_does_not_fill_the_memory(program: Sidecar, connect: Connect) -> None:
    before = program.peak_memory
    connection = connect(program)
    connection.sendall(HEAD + b"X: ")
    with suppress(ConnectionError):
        for _ in range(200):
            connection.sendall(b"x" * 1024 * 1024)
    assert program.peak_memory - before < 20e6


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="request line"),
        pytest.param(b"\r\n", id="after an empty line"),
        pytest.param(HEAD + b"X: ", id="header"),
        pytest.param(HEAD + b"Content-Length: 1000\r\n\r\n", id="body"),
    ],
)
def test_a_request_that_trickles_in_is_aborted(impatient: Sidecar, connect: Connect, start: bytes) -> None:
    connection = connect(impatient)
    connection.sendall(start)
    if start.endswith(b"\r\n\r\n"):
        connection.recv(4096)
    assert closes_within(connection, 10 * REQUEST_SECONDS)


def test_a_silent_connection_is_closed(impatient: Sidecar, connect: Connect) -> None:
    assert connect(impatient).recv(1) == b""


def test_the_deadline_is_for_each_request_not_for_the_connection(impatient: Sidecar) -> None:
    with closing(HTTPConnection("127.0.0.1", impatient.port, timeout=10)) as connection:
        connection.connect()
        first = connection.sock.getsockname()
        deadline = time.monotonic() + 2 * REQUEST_SECONDS
        while time.monotonic() < deadline:
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b'{"status":"ok"}'
        assert connection.sock.getsockname() == first


def median_seconds(program: Sidecar) -> float:
    """The median duration of a request on an open connection."""
    seconds = []
    with closing(HTTPConnection("127.0.0.1", program.port, timeout=10)) as connection:
        for _ in range(21):
            started = time.monotonic()
            connection.request("GET", "/health")
            connection.getresponse().read()
            seconds.append(time.monotonic() - started)
    return sorted(seconds)[10]


def test_responses_are_sent_without_delay(program: Sidecar, sidecar: Start) -> None:
    """Without TCP_NODELAY each takes 40 ms."""
    assert median_seconds(program) < 0.03
    assert median_seconds(sidecar([*PROGRAM, "--reload"])) < 0.03


def test_idle_connections_keep_nobody_out(sidecar: Start, connect: Connect) -> None:
    program = sidecar(with_limit("-n 256"))
    for number in range(300):
        connect(program)
        # More connections at once than the backlog holds would wait a second for their next attempt.
        if number % 20 == 0:
            assert program.get("/health")[0] == 200
    assert program.get("/health")[0] == 200
    assert len(program.output) < 10_000


def test_the_soft_limit_of_file_descriptors_is_raised_to_the_hard_limit(program: Sidecar) -> None:
    soft, hard, *_ = Path(f"/proc/{program.pid}/limits").read_text().partition("Max open files")[2].split()
    assert soft == hard != "256"


def test_a_repeated_warning_is_logged_once(sidecar: Start, connect: Connect) -> None:
    program = sidecar()
    for _ in range(50):
        connection = connect(program)
        connection.sendall(b"rubbish\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert program.output.count("Invalid HTTP request") == 1


def test_a_stop_does_not_wait_for_incomplete_requests(sidecar: Start, connect: Connect) -> None:
    program = sidecar()
    connections = [connect(program) for _ in range(3)]
    for connection, start in zip(connections, (b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\nx"), strict=True):
        connection.sendall(start)
    assert program.is_up()
    started = time.monotonic()
    program.stop()
    assert time.monotonic() - started < 2.0
    assert "Traceback" not in program.output


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8001", "[::1]:8001", "metrics-sidecar:8001"])
def test_a_local_host_name_is_served(program: Sidecar, host: str) -> None:
    assert program.get("/metrics", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host, status", [("rebound.example", 421), ("a b", 400), ("[::1", 400), ("user@localhost", 400), ("", 400)]
)
def test_an_unknown_or_invalid_host_is_refused(program: Sidecar, host: str, status: int) -> None:
    assert program.get("/metrics", Host=host)[0] == status


def test_an_allowed_host_name_is_served(sidecar: Start) -> None:
    program = sidecar(SIDECAR_ALLOWED_HOSTS="telemetry.example, Host-1.example,")
    hosts = {"Telemetry.example:8001": 200, "host-1.example": 200, "x.example": 421}
    assert {host: program.get("/metrics", Host=host)[0] for host in hosts} == hosts


@pytest.mark.parametrize(
    "mode, dest, status", [("navigate", "document", 200), ("no-cors", "script", 403), ("navigate", "iframe", 403)]
)
def test_another_site_may_only_link_here(program: Sidecar, mode: str, dest: str, status: int) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert program.get("/metrics", **headers)[0] == status
