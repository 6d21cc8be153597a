"""The HTTP API: one POST emits one trade."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from app_process import MEASURED, FakeSidecar, environ, eventually, free_port, program, request, run

pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@contextmanager
def serving(command: list[str], **settings: str) -> Iterator[str]:
    """Run a program, and yield its address as soon as it answers."""
    port = free_port()
    with subprocess.Popen(command, env=environ(**settings, PORT=str(port))) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            assert eventually(lambda: request(f"{url}/docs")[0] == 200, timeout=60)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) in {0, -signal.SIGTERM}


@pytest.fixture(scope="module")
def api(shared_sidecar: FakeSidecar) -> Iterator[str]:
    """The address of a running API."""
    settings = {**shared_sidecar.environ, "WEBAPP_UI_URL": "http://desk.example:8501/", **MEASURED}
    with serving(program("api"), **settings) as url:
        yield url


def test_a_json_order_is_answered_with_the_trade(api: str, shared_sidecar: FakeSidecar) -> None:
    status, _, body = request(f"{api}/trade/buy", b'{"qty": 2.5}', **JSON)
    trade = shared_sidecar.receive()
    assert status == 202
    assert json.loads(body) == trade
    assert (trade["side"], trade["qty"]) == ("buy", 2.5)


@pytest.mark.parametrize(
    "headers, body",
    [
        pytest.param(JSON, b'{"qty": 1, "symbol": "BTC-USD", "price": 64250.5}', id="json"),
        pytest.param(FORM, b"qty=1&symbol=BTC-USD&price=64250.5", id="form"),
    ],
)
def test_symbol_and_price_are_part_of_the_trade(
    api: str, shared_sidecar: FakeSidecar, headers: dict[str, str], body: bytes
) -> None:
    request(f"{api}/trade/sell", body, **headers)
    trade = shared_sidecar.receive()
    assert (trade["symbol"], trade["price"]) == ("BTC-USD", 64250.5)


def test_the_default_quantity_is_1(api: str, shared_sidecar: FakeSidecar) -> None:
    assert request(f"{api}/trade/sell", b"", **JSON)[0] == 202
    assert shared_sidecar.receive()["qty"] == 1.0


def test_a_form_is_answered_with_a_redirect_to_the_page(api: str, shared_sidecar: FakeSidecar) -> None:
    status, headers, _ = request(f"{api}/trade/sell", b"qty=3", **FORM)
    assert status == 303
    assert headers["location"] == "http://desk.example:8501"
    assert shared_sidecar.receive()["qty"] == 3.0


def test_a_blank_field_of_a_form_is_a_missing_one(api: str, shared_sidecar: FakeSidecar) -> None:
    assert request(f"{api}/trade/buy", b"qty=3&symbol=&price=", **FORM)[0] == 303
    trade = shared_sidecar.receive()
    assert trade["qty"] == 3.0
    assert not {"symbol", "price"} & set(trade)


def test_a_multipart_form_is_accepted(api: str, shared_sidecar: FakeSidecar) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="qty"\r\n\r\n4\r\n--x--\r\n'
    assert request(f"{api}/trade/buy", body, **{"Content-Type": "multipart/form-data; boundary=x"})[0] == 303
    assert shared_sidecar.receive()["qty"] == 4.0


@pytest.mark.parametrize(
    "side, body, headers, location",
    [
        pytest.param("short", b'{"qty": 1}', JSON, ["path", "side"], id="unknown side"),
        pytest.param("buy", b'{"qty": 0}', JSON, ["body", "qty"], id="qty 0"),
        pytest.param("buy", b'{"qty": -1}', JSON, ["body", "qty"], id="negative qty"),
        pytest.param("buy", b'{"qty": "1"}', JSON, ["body", "qty"], id="qty as a string"),
        pytest.param("buy", b'{"qty": true}', JSON, ["body", "qty"], id="qty as a boolean"),
        pytest.param("buy", b'{"qty": NaN}', JSON, ["body", "qty"], id="qty NaN"),
        pytest.param("buy", b'{"qty": 1e999}', JSON, ["body", "qty"], id="infinite qty"),
        pytest.param("buy", b'{"qty": 1e13}', JSON, ["body", "qty"], id="qty above the limit"),
        pytest.param("buy", b'{"symbol": "BTC USD"}', JSON, ["body", "symbol"], id="symbol with a space"),
        pytest.param("buy", b'{"price": -1}', JSON, ["body", "price"], id="negative price"),
        pytest.param("buy", b'{"price": 1e13}', JSON, ["body", "price"], id="price above the limit"),
        pytest.param("buy", b"[1]", JSON, ["body"], id="array"),
        pytest.param("buy", b"{", JSON, ["body"], id="truncated JSON"),
        pytest.param("buy", b"\xff", JSON, ["body"], id="not UTF-8"),
        pytest.param("buy", b'{"quantity": 5}', JSON, ["body", "quantity"], id="unknown field"),
        pytest.param("buy", b'{"qty": 5}', FORM, ["body", '{"qty": 5}'], id="JSON as a form"),
        pytest.param("buy", b"qty=0", FORM, ["body", "qty"], id="form with qty 0"),
        pytest.param("buy", b"qty=many", FORM, ["body", "qty"], id="form with a word"),
        pytest.param("buy", b"qty=", FORM, ["body", "qty"], id="form without a qty"),
    ],
)
def test_an_invalid_order_is_refused_with_the_reason(  # noqa: PLR0913, PLR0917 - one parameter a column
    api: str, shared_sidecar: FakeSidecar, side: str, body: bytes, headers: dict[str, str], location: list[str]
) -> None:
    status, _, answer = request(f"{api}/trade/{side}", body, **headers)
    problem = json.loads(answer)["detail"][0]
    assert (status, problem["loc"]) == (422, location)
    assert problem["msg"]
    # The next trade that arrives is a valid one: the invalid order emitted none.
    request(f"{api}/trade/buy", b'{"qty": 8}', **JSON)
    assert shared_sidecar.receive()["qty"] == 8.0


def test_a_trade_that_cannot_be_stored_is_refused_with_the_reason(tmp_path: Path, shared_sidecar: FakeSidecar) -> None:
    settings = {**shared_sidecar.environ, "WEBAPP_OUTBOX": str(tmp_path)}
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *program("api")]
    with serving(limited, **settings) as url:
        status, _, body = request(f"{url}/trade/buy", b"{}", **JSON)
    assert status == 503
    assert json.loads(body)["detail"].startswith(f"{tmp_path}/api: File too large. ")


@pytest.mark.parametrize("arguments", [(), ("--reload",)], ids=["", "reload"])
def test_the_publishers_warnings_are_logged_with_their_level(arguments: tuple[str, ...]) -> None:
    port = free_port()
    settings = {**FakeSidecar().environ, "PORT": str(port)}
    command = program("api", *arguments)
    with subprocess.Popen(command, env=environ(**settings), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert eventually(lambda: request(f"http://127.0.0.1:{port}/trade/buy", b"{}", **JSON)[0] == 202, 60)
        finally:
            process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=30)
    assert "WARNING:  closed with 1 trades that the sidecar has not committed; they are lost\n" in logged


CLOSED = """
from trading_app.api import create_app
from trading_app.publisher import TradePublisher
from trading_app.server import run
from trading_app.settings import Settings
settings = Settings.from_environ(port=8000)
publisher = TradePublisher(settings.zmq_addr, sidecar_url=settings.sidecar_url)
publisher.close(timeout=0)
run(create_app(publisher, settings), settings.host, settings.port)
"""


def test_a_trade_after_the_publisher_has_failed_is_refused_with_the_reason(shared_sidecar: FakeSidecar) -> None:
    with serving([sys.executable, "-c", CLOSED], **shared_sidecar.environ) as url:
        status, _, body = request(f"{url}/trade/buy", b"{}", **JSON)
    assert (status, json.loads(body)) == (503, {"detail": "the publisher is closed"})


def test_the_schema_names_the_bodies_and_the_answers(api: str) -> None:
    operation = json.loads(request(f"{api}/openapi.json")[2])["paths"]["/trade/{side}"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    }
    assert set(operation["responses"]) == {"202", "303", "400", "403", "413", "415", "421", "422", "503"}


PROGRAMS = pytest.mark.parametrize("module, name", [("api", "trading-api"), ("ui", "trading-app")], ids=["api", "ui"])


@PROGRAMS
def test_an_invalid_setting_ends_the_program_with_one_line(module: str, name: str) -> None:
    ended = run(module, PORT="abc", WEBAPP_OUTBOX="")
    assert ended.returncode == 1
    assert ended.stderr == f"{name}: PORT=abc: not a port. Use a number from 1 to 65535\n"


@PROGRAMS
def test_a_port_in_use_ends_the_program_with_one_line(module: str, name: str, shared_sidecar: FakeSidecar) -> None:
    port = shared_sidecar.address.rsplit(":", 1)[1]
    ended = run(module, PORT=port)
    assert ended.returncode == 1
    assert ended.stderr == f"{name}: PORT={port}: another program listens there. Stop it, or choose another port\n"


@PROGRAMS
def test_an_outbox_that_cannot_be_used_ends_the_program_with_one_line(module: str, name: str) -> None:
    ended = run(module, PORT=str(free_port()), WEBAPP_OUTBOX="/proc/outbox")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{name}: WEBAPP_OUTBOX=/proc/outbox: ")
    assert ended.stderr.count("\n") == 1
