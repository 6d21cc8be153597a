"""What one client of the API can cost, and who may ask it."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from app_process import FakeSidecar, eventually, free_port, program, request

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LIMIT = 64 * 1024


class Api:
    """A running API, as process and as address."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.buy = f"http://127.0.0.1:{port}/trade/buy"

    @property
    def peak_memory(self) -> int:
        """In bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.fixture
def start(sidecar: FakeSidecar, tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Starts an API, whose output is in ``tmp_path``."""
    started: list[Api] = []

    def start(**settings: str) -> Api:
        port = free_port()
        environ = {**os.environ, **sidecar.environ, "PORT": str(port), **settings}
        with (tmp_path / "output").open("w") as output:
            process = subprocess.Popen(program("api"), env=environ, stdout=output, stderr=output, text=True)
        started.append(Api(process, port))
        assert eventually(lambda: request(f"http://127.0.0.1:{port}/openapi.json")[0] == 200)
        return started[-1]

    yield start
    for api in started:
        api.process.kill()
        api.process.wait(20)


@pytest.fixture
def api(start: Callable[..., Api]) -> Api:
    return start()


def test_a_body_has_64_kib_at_most(api: Api, sidecar: FakeSidecar) -> None:
    assert request(api.buy, b'{"qty": 2}'.ljust(LIMIT), **JSON)[0] == 202
    assert sidecar.receive()["qty"] == 2.0
    assert request(api.buy, b'{"qty": 2}'.ljust(LIMIT + 1), **JSON)[0] == 413
    assert request(api.buy, b"qty=2&a=".ljust(LIMIT + 1, b"x"), **FORM)[0] == 413
    assert sidecar.is_silent()


def test_a_body_that_announces_its_size_is_refused_before_it_is_sent(api: Api) -> None:
    with closing(HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        connection.putrequest("POST", "/trade/buy")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000000000")
        connection.endheaders()
        assert connection.getresponse().status == 413


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x"])
def test_an_endless_body_does_not_fill_the_memory(api: Api, media_type: str) -> None:
    before = api.peak_memory
    head = f"POST /trade/buy HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        with suppress(ConnectionError):
            for _ in range(200):
                connection.sendall(chunk)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert api.peak_memory - before < 20e6


def test_a_stop_does_not_wait_for_the_rest_of_a_body(api: Api, tmp_path: Path) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(b"POST /trade/buy HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
        assert request(api.buy, b"{}", **JSON)[0] == 202
        api.process.send_signal(signal.SIGTERM)
        api.process.wait(5)
    assert "Traceback" not in (tmp_path / "output").read_text()


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/jsonp", "", None])
def test_only_json_and_forms_are_orders(api: Api, sidecar: FakeSidecar, media_type: str | None) -> None:
    with closing(HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        headers = {} if media_type is None else {"Content-Type": media_type}
        connection.request("POST", "/trade/buy", b'{"qty": 5}', headers)
        answer = connection.getresponse()
        assert (answer.status, b"send application/json" in answer.read()) == (415, True)
    assert sidecar.is_silent()


def test_no_body_at_all_needs_no_type(api: Api, sidecar: FakeSidecar) -> None:
    with closing(HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        connection.request("POST", "/trade/buy")
        assert connection.getresponse().status == 202
    assert sidecar.receive()["qty"] == 1.0


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 202),
        ({"Origin": "http://127.0.0.1:PORT"}, 202),
        ({"Origin": "https://desk.example"}, 202),
        ({"Origin": "https://desk.example", "Sec-Fetch-Site": "cross-site"}, 202),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://desk.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403),
        ({"Host": "rebound.example"}, 421),
        ({"Host": "trading.example:8000"}, 202),
        ({"Host": "TRADING.example", "Origin": "http://TRADING.example"}, 202),
    ],
)
def test_own_pages_and_allowed_hosts_may_trade(start: Callable[..., Api], headers: dict[str, str], status: int) -> None:
    settings = {"WEBAPP_ALLOWED_HOSTS": "other.example, Trading.example", "WEBAPP_UI_URL": "https://desk.example/page"}
    api = start(**settings)
    sent = {name: value.replace("PORT", str(api.port)) for name, value in headers.items()}
    assert request(api.buy, b"{}", **JSON, **sent)[0] == status
