"""The limits of a client of the API, and the requests that the API refuses."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from app_process import MEASURED, FakeSidecar, environ, eventually, free_port, program, request

pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LIMIT = 64 * 1024


SETTINGS = {"WEBAPP_ALLOWED_HOSTS": "other.example, Trading.example", "WEBAPP_UI_URL": "https://desk.example/page"}


class Api:
    """A running API: its process and its address."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.buy = f"http://127.0.0.1:{port}/trade/buy"

    @property
    def peak_memory(self) -> int:
        """The highest resident memory so far, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def running(sidecar: FakeSidecar, output: Path, **settings: str) -> Iterator[Api]:
    """Run an API that writes to the file ``output``."""
    port = free_port()
    settings |= {**sidecar.environ, "PORT": str(port), **SETTINGS}
    with output.open("wb") as file:
        process = subprocess.Popen(program("api"), env=environ(**settings), stdout=file, stderr=file)
    try:
        assert eventually(lambda: request(f"http://127.0.0.1:{port}/openapi.json")[0] == 200, timeout=60)
        yield Api(process, port)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def api(shared_sidecar: FakeSidecar, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(shared_sidecar, tmp_path_factory.mktemp("api") / "output", **MEASURED) as api:
        yield api


def test_a_body_may_have_64_kib(api: Api, shared_sidecar: FakeSidecar) -> None:
    assert request(api.buy, b'{"qty": 2}'.ljust(LIMIT), **JSON)[0] == 202
    assert shared_sidecar.receive()["qty"] == 2.0


@pytest.mark.parametrize(
    "headers, body",
    [
        pytest.param(JSON, b'{"qty": 2}'.ljust(LIMIT + 1), id="json"),
        pytest.param(FORM, b"qty=2&a=".ljust(LIMIT + 1, b"x"), id="form"),
    ],
)
def test_a_larger_body_is_refused(api: Api, shared_sidecar: FakeSidecar, headers: dict[str, str], body: bytes) -> None:
    assert request(api.buy, body, **headers)[0] == 413
    assert_emits_nothing_else(api, shared_sidecar)


def test_a_body_with_a_large_content_length_is_refused_before_it_is_sent(api: Api) -> None:
    with closing(HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        connection.putrequest("POST", "/trade/buy")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000000000")
        connection.endheaders()
        assert connection.getresponse().status == 413


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x"], ids=["json", "form"])
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


def test_a_stop_does_not_wait_for_the_rest_of_a_body(shared_sidecar: FakeSidecar, tmp_path: Path) -> None:
    with (
        running(shared_sidecar, tmp_path / "output") as api,
        socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection,
    ):
        connection.sendall(b"POST /trade/buy HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
        assert request(api.buy, b"{}", **JSON)[0] == 202
        assert shared_sidecar.receive()["qty"] == 1.0
        api.process.send_signal(signal.SIGTERM)
        api.process.wait(5)
    assert "Traceback" not in (tmp_path / "output").read_text()


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/jsonp", "", None])
def test_a_body_that_is_neither_json_nor_a_form_is_refused(
    api: Api, shared_sidecar: FakeSidecar, media_type: str | None
) -> None:
    with closing(HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        headers = {} if media_type is None else {"Content-Type": media_type}
        connection.request("POST", "/trade/buy", b'{"qty": 5}', headers)
        answer = connection.getresponse()
        assert (answer.status, b"send application/json" in answer.read()) == (415, True)
    assert_emits_nothing_else(api, shared_sidecar)


def test_a_request_without_a_body_needs_no_content_type(api: Api, shared_sidecar: FakeSidecar) -> None:
    with closing(HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        connection.request("POST", "/trade/buy")
        assert connection.getresponse().status == 202
    assert shared_sidecar.receive()["qty"] == 1.0


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="program"),
        pytest.param({"Origin": "http://127.0.0.1:PORT"}, id="own origin"),
        pytest.param({"Origin": "https://desk.example"}, id="the page"),
        pytest.param({"Origin": "https://desk.example", "Sec-Fetch-Site": "cross-site"}, id="the page, cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, id="same-origin"),
        pytest.param({"Sec-Fetch-Site": "none"}, id="address bar"),
        pytest.param({"Host": "trading.example:8000"}, id="allowed host"),
        pytest.param({"Host": "TRADING.example", "Origin": "http://TRADING.example"}, id="allowed host, capitals"),
    ],
)
def test_the_page_and_allowed_hosts_may_trade(api: Api, shared_sidecar: FakeSidecar, headers: dict[str, str]) -> None:
    assert request(api.buy, b'{"qty": 6}', **JSON, **from_port(api, headers))[0] == 202
    assert shared_sidecar.receive()["qty"] == 6.0


@pytest.mark.parametrize(
    "headers, status",
    [
        pytest.param({"Origin": "http://127.0.0.1:1"}, 403, id="other port"),
        pytest.param({"Origin": "http://desk.example"}, 403, id="other scheme"),
        pytest.param({"Origin": "null"}, 403, id="opaque origin"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="same-site"),
        pytest.param(
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            403,
            id="form of another site",
        ),
        pytest.param({"Host": "rebound.example"}, 421, id="unknown host"),
    ],
)
def test_other_web_sites_and_unknown_hosts_may_not_trade(
    api: Api, shared_sidecar: FakeSidecar, headers: dict[str, str], status: int
) -> None:
    assert request(api.buy, b"{}", **JSON, **from_port(api, headers))[0] == status
    assert_emits_nothing_else(api, shared_sidecar)


def from_port(api: Api, headers: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("PORT", str(api.port)) for name, value in headers.items()}


def assert_emits_nothing_else(api: Api, sidecar: FakeSidecar) -> None:
    """The next trade to arrive is the one that is sent here, so the request before it emitted none."""
    assert request(api.buy, b'{"qty": 8}', **JSON)[0] == 202
    assert sidecar.receive()["qty"] == 8.0


def test_a_request_with_two_hosts_is_refused(api: Api) -> None:
    head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_browsers_may_not_guess_the_type_of_an_answer(api: Api) -> None:
    _, headers, _ = request(f"http://127.0.0.1:{api.port}/metrics")
    assert headers["x-content-type-options"] == "nosniff"


UPGRADE = (
    "GET /_stcore/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_the_page_has_at_most_100_websockets(shared_sidecar: FakeSidecar) -> None:
    port = free_port()
    with ExitStack() as stack:
        page = stack.enter_context(
            subprocess.Popen(program("ui"), env=environ(**shared_sidecar.environ, PORT=str(port)))
        )
        stack.callback(page.terminate)
        assert eventually(lambda: request(f"http://127.0.0.1:{port}/_stcore/health")[0] == 200, timeout=60)

        def open_websocket() -> tuple[socket.socket, bytes]:
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            opened.sendall(UPGRADE.encode())
            return opened, opened.recv(4096).partition(b"\r\n")[0]

        opened = [open_websocket() for _ in range(100)]
        assert {status for _, status in opened} == {b"HTTP/1.1 101 Switching Protocols"}
        assert open_websocket()[1] == b"HTTP/1.1 503 Service Unavailable"
        opened[0][0].close()
        assert eventually(lambda: open_websocket()[1] == b"HTTP/1.1 101 Switching Protocols")
