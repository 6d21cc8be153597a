"""The HTTP client, asking real servers that do not behave."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from trading_app.client import HttpClient, Unreachable
from trading_app.publisher import TradePublisher

type Serve = Callable[..., str]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"
TIMEOUT = 0.4


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that sends ``start`` at once and ``then`` for ever, every ``pause`` seconds; gives its URL."""
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
        (HEAD + b"\r\n", b"x"),
        (HEAD, b"X-Slow: yes\r\n"),
        (b"", b"H"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
    ],
)
def test_an_answer_that_trickles_ends_at_the_deadline(serve: Serve, start: bytes, then: bytes) -> None:
    client = HttpClient(serve(start, then, pause=0.05), TIMEOUT)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="timed out"):
        client.get("/")
    assert time.monotonic() - began < 2 * TIMEOUT
    client.close()


def test_a_connection_that_the_server_has_closed_is_opened_again() -> None:
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


def test_a_server_that_is_not_there_is_unreachable_until_it_is() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        client = HttpClient(f"http://127.0.0.1:{reserved.getsockname()[1]}", timeout=10.0)
        with pytest.raises(Unreachable, match="Connection refused"):
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


def test_an_endless_answer_is_read_up_to_its_limit(serve: Serve) -> None:
    client = HttpClient(serve(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 65536), timeout=10.0)
    with pytest.raises(Unreachable, match="more than 100,000 bytes"):
        client.get("/", max_bytes=100_000)
    client.close()


def test_a_whole_answer_of_the_limit_is_taken(serve: Serve) -> None:
    client = HttpClient(serve(HEAD + b"\r\n" + b"x" * 1000), timeout=10.0)
    assert client.get("/", max_bytes=1000) == "x" * 1000
    client.close()


def test_an_answer_until_the_connection_ends_is_taken(serve: Serve) -> None:
    client = HttpClient(serve(b"HTTP/1.0 200 OK\r\n\r\nhello"), timeout=10.0)
    assert client.get("/") == "hello"
    client.close()


def test_a_sidecar_that_trickles_does_not_hold_up_close(serve: Serve) -> None:
    publisher = TradePublisher("tcp://127.0.0.1:9", sidecar_url=serve(HEAD, b"X-Slow: yes\r\n", pause=0.05))
    publisher.publish("buy", 1.0)
    began = time.monotonic()
    publisher.close(timeout=0.5)
    assert time.monotonic() - began < 2.0
