"""The HTTP client, with real servers that misbehave."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from trading_app.client import HttpClient
from trading_app.publisher import TradePublisher
from trading_app.unreachable import Unreachable

type Serve = Callable[..., str]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"
TIMEOUT = 0.4


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that sends ``start`` at once, then ``then`` every ``pause`` seconds; return its URL."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)

    def start(start: bytes, then: bytes = b"", pause: float = 0.0) -> str:
        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(4096)
                    connection.sendall(start)
                    while then and not stop.wait(pause):
                        connection.sendall(then)
                except OSError:
                    return

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                connection.settimeout(10)
                threads.append(threading.Thread(target=answer, args=(connection,)))
                threads[-1].start()

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    stop.set()
    for thread in threads:
        thread.join()
    listening.close()


@pytest.mark.parametrize(
    "start, then",
    [
        pytest.param(HEAD + b"\r\n", b"x", id="body"),
        pytest.param(HEAD, b"X-Slow: yes\r\n", id="headers"),
        pytest.param(b"", b"H", id="status line"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="100 Continue"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="chunks"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", b"x", id="body without a length"),
    ],
)
def test_a_slow_answer_ends_at_the_deadline(serve: Serve, start: bytes, then: bytes) -> None:
    client = HttpClient(serve(start, then, pause=0.05), TIMEOUT)
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"^timed out$"):
        client.get("/")
    assert time.monotonic() - began < 2 * TIMEOUT
    client.close()


def test_a_connection_closed_by_the_server_is_reopened() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = HttpClient(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=10.0)

        def answer_once_each() -> None:
            for _ in range(3):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        server = threading.Thread(target=answer_once_each)
        server.start()
        assert [client.get("/") for _ in range(3)] == ["hello"] * 3
        server.join()
        client.close()


def test_a_server_is_unreachable_until_it_listens() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        client = HttpClient(f"http://127.0.0.1:{reserved.getsockname()[1]}", timeout=10.0)
        with pytest.raises(Unreachable, match=r"^Connection refused$"):
            client.get("/")
        reserved.listen()
        server = threading.Thread(target=_answer, args=(reserved,))
        server.start()
        assert client.get("/") == "hello"
        server.join()
        client.close()


def _answer(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")


def test_an_endless_answer_is_cut_off_at_max_bytes(serve: Serve) -> None:
    client = HttpClient(serve(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 65536), timeout=10.0)
    with pytest.raises(Unreachable, match=r"^the answer has more than 100,000 bytes$"):
        client.get("/", max_bytes=100_000)
    client.close()


def test_an_answer_of_exactly_max_bytes_is_accepted(serve: Serve) -> None:
    client = HttpClient(serve(HEAD + b"\r\n" + b"x" * 1000), timeout=10.0)
    assert client.get("/", max_bytes=1000) == "x" * 1000
    client.close()


def test_an_answer_without_a_length_ends_with_the_connection(serve: Serve) -> None:
    client = HttpClient(serve(b"HTTP/1.0 200 OK\r\n\r\nhello"), timeout=10.0)
    assert client.get("/") == "hello"
    client.close()


def test_a_slow_sidecar_does_not_delay_close(serve: Serve) -> None:
    publisher = TradePublisher("tcp://127.0.0.1:9", sidecar_url=serve(HEAD, b"X-Slow: yes\r\n", pause=0.05))
    publisher.publish("buy", 1.0)
    began = time.monotonic()
    publisher.close(timeout=0.5)
    assert time.monotonic() - began < 2.0


def test_a_status_other_than_200_is_unreachable_with_the_start_of_the_body(serve: Serve) -> None:
    body = b"x" * 1000
    client = HttpClient(serve(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\n" + body), timeout=10.0)
    with pytest.raises(Unreachable, match=f"^status 503: {'x' * 200}$"):
        client.get("/")
    client.close()


@pytest.mark.parametrize(
    "answer, reason",
    [
        pytest.param(b"hello\r\n\r\n", "hello", id="not HTTP"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n\xff", "'utf-8' codec can't decode byte 0xff", id="not UTF-8"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "the answer ends 8 bytes too early", id="truncated"
        ),
    ],
)
def test_an_answer_that_cannot_be_read_is_unreachable_with_a_reason(serve: Serve, answer: bytes, reason: str) -> None:
    client = HttpClient(serve(answer), timeout=10.0)
    with pytest.raises(Unreachable, match=f"^{reason}"):
        client.get("/")
    client.close()


def test_the_path_of_the_url_precedes_the_path_of_the_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = HttpClient(f"http://127.0.0.1:{listening.getsockname()[1]}/sidecar/", timeout=10.0)
        lines: list[bytes] = []

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                lines.append(connection.recv(4096).partition(b"\r\n")[0])
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

        server = threading.Thread(target=answer)
        server.start()
        client.get("/metrics")
        server.join()
        client.close()
    assert lines == [b"GET /sidecar/metrics HTTP/1.1"]


@pytest.mark.parametrize(
    "url, host, port",
    [
        ("http://localhost", "localhost", 80),
        ("http://[::1]", "::1", 80),
        ("http://[fd00::a]/sidecar", "fd00::a", 80),
        ("https://[::1]", "::1", 443),
        ("http://[::1]:8001", "::1", 8001),
    ],
)
def test_a_url_without_a_port_means_the_default_port(
    url: str, host: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr("socket.create_connection", refuse)
    with pytest.raises(Unreachable):
        HttpClient(url).get("/")
    assert asked == [(host, port)]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8001",
        "ftp://localhost",
        "http://",
        "http://localhost:x",
        "http://[::1",
        "http://a b",
        "http://a\x7f",
    ],
)
def test_a_url_that_is_not_an_http_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^not an HTTP address: "):
        HttpClient(url)
