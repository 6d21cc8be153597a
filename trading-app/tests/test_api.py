"""The HTTP API as a program: one POST a trade."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_process import FakeSidecar, eventually, free_port, program, request, run

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def api(sidecar: FakeSidecar) -> Iterator[str]:
    """The address of a running API."""
    port = free_port()
    environ = {**sidecar.environ, "PORT": str(port), "WEBAPP_UI_URL": "http://desk.example:8501/"}
    with subprocess.Popen(program("api"), env={**os.environ, **environ}) as process:
        url = f"http://127.0.0.1:{port}"
        assert eventually(lambda: request(f"{url}/docs")[0] == 200)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in {0, -signal.SIGTERM}


def test_json_answers_with_the_trade(api: str, sidecar: FakeSidecar) -> None:
    status, _, body = request(f"{api}/trade/buy", b'{"qty": 2.5}', **JSON)
    trade = sidecar.receive()
    assert status == 202
    assert json.loads(body) == trade
    assert (trade["side"], trade["qty"]) == ("buy", 2.5)


def test_symbol_and_price_go_with_the_trade(api: str, sidecar: FakeSidecar) -> None:
    status, _, body = request(f"{api}/trade/buy", b'{"qty": 1, "symbol": "BTC-USD", "price": 64250.5}', **JSON)
    assert status == 202
    trade = sidecar.receive()
    assert json.loads(body) == trade
    assert (trade["symbol"], trade["price"]) == ("BTC-USD", 64250.5)
    request(f"{api}/trade/sell", b"qty=3&symbol=ETH-USD&price=3000", **FORM)
    trade = sidecar.receive()
    assert (trade["symbol"], trade["price"]) == ("ETH-USD", 3000.0)


def test_without_a_body_the_quantity_is_1(api: str, sidecar: FakeSidecar) -> None:
    assert request(f"{api}/trade/sell", b"", **JSON)[0] == 202
    assert sidecar.receive()["qty"] == 1.0


def test_a_form_answers_with_the_way_back_to_the_page(api: str, sidecar: FakeSidecar) -> None:
    status, headers, _ = request(f"{api}/trade/sell", b"qty=3", **FORM)
    assert status == 303
    assert headers["location"] == "http://desk.example:8501"
    assert sidecar.receive()["qty"] == 3.0


def test_a_form_with_an_enclosure_is_a_form_too(api: str, sidecar: FakeSidecar) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="qty"\r\n\r\n4\r\n--x--\r\n'
    assert request(f"{api}/trade/buy", body, **{"Content-Type": "multipart/form-data; boundary=x"})[0] == 303
    assert sidecar.receive()["qty"] == 4.0


def test_an_order_that_makes_no_trade_is_refused_with_the_reason(api: str, sidecar: FakeSidecar) -> None:
    refused = [
        ("short", b'{"qty": 1}', JSON, ["path", "side"]),
        *(
            ("buy", body, JSON, ["body", "qty"])
            for body in (b'{"qty": 0}', b'{"qty": -1}', b'{"qty": "1"}', b'{"qty": true}', b'{"qty": NaN}')
        ),
        ("buy", b'{"qty": 1e999}', JSON, ["body", "qty"]),
        ("buy", b'{"qty": 1e13}', JSON, ["body", "qty"]),
        ("buy", b'{"symbol": "BTC USD"}', JSON, ["body", "symbol"]),
        ("buy", b'{"price": -1}', JSON, ["body", "price"]),
        ("buy", b"[1]", JSON, ["body"]),
        ("buy", b"{", JSON, ["body"]),
        ("buy", b"\xff", JSON, ["body"]),
        ("buy", b'{"quantity": 5}', JSON, ["body", "quantity"]),
        ("buy", b'{"qty": 5}', FORM, ["body", '{"qty": 5}']),
        ("buy", b"qty=0", FORM, ["body", "qty"]),
        ("buy", b"qty=many", FORM, ["body", "qty"]),
        ("buy", b"qty=", FORM, ["body", "qty"]),
    ]
    for side, body, headers, location in refused:
        status, _, answer = request(f"{api}/trade/{side}", body, **headers)
        problem = json.loads(answer)["detail"][0]
        assert (status, problem["loc"]) == (422, location), body
        assert problem["msg"]
    request(f"{api}/trade/buy", b'{"qty": 8}', **JSON)
    assert sidecar.receive()["qty"] == 8.0


def test_a_trade_that_cannot_be_kept_is_refused_with_the_reason(tmp_path: Path, sidecar: FakeSidecar) -> None:
    port = free_port()
    environ = {**sidecar.environ, "PORT": str(port), "WEBAPP_OUTBOX": str(tmp_path)}
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *program("api")]
    with subprocess.Popen(limited, env={**os.environ, **environ}) as process:
        url = f"http://127.0.0.1:{port}"
        assert eventually(lambda: request(f"{url}/docs")[0] == 200)
        status, _, body = request(f"{url}/trade/buy", b"{}", **JSON)
        process.send_signal(signal.SIGTERM)
    assert status == 503
    assert json.loads(body)["detail"].startswith(f"{tmp_path}/api: File too large. ")


def test_the_api_describes_itself(api: str) -> None:
    operation = json.loads(request(f"{api}/openapi.json")[2])["paths"]["/trade/{side}"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    }
    assert {"202", "303", "422"} <= set(operation["responses"])


@pytest.mark.parametrize("module, name", [("api", "trading-api"), ("ui", "trading-app")])
@pytest.mark.parametrize(
    "settings, line",
    [
        ({"PORT": "abc"}, "PORT=abc: not a port. Use a number from 1 to 65535"),
        ({"PORT": "99999"}, "PORT=99999: not a port. Use a number from 1 to 65535"),
        ({"HOST": "192.0.2.1"}, "HOST=192.0.2.1: "),
        ({"WEBAPP_ZMQ_ADDR": "tcp://nowhere"}, "WEBAPP_ZMQ_ADDR=tcp://nowhere: not a ZeroMQ address. Use the form"),
        ({"WEBAPP_OUTBOX": "/proc/outbox"}, "WEBAPP_OUTBOX=/proc/outbox: "),
        ({"WEBAPP_SIDECAR_URL": "localhost:8001"}, "WEBAPP_SIDECAR_URL=localhost:8001: not an HTTP address. Use the"),
        ({"WEBAPP_SIDECAR_URL": "http://[::1"}, "WEBAPP_SIDECAR_URL=http://[::1: not an HTTP address. Use the form"),
        ({"WEBAPP_UI_URL": "http://a:99999"}, "WEBAPP_UI_URL=http://a:99999: not an HTTP address. Use the form"),
        ({"WEBAPP_SIDECAR_URL": f"http://{'ü' * 70}"}, f"WEBAPP_SIDECAR_URL=http://{'ü' * 70}: not an HTTP address. U"),
        ({"WEBAPP_ZMQ_ADDR": "ipc://"}, "WEBAPP_ZMQ_ADDR=ipc://: not a ZeroMQ address. Use the form"),
        ({"WEBAPP_ZMQ_ADDR": "tcp://[::x]:5555"}, "WEBAPP_ZMQ_ADDR=tcp://[::x]:5555: not a ZeroMQ address. Use the"),
        (
            {"WEBAPP_ZMQ_ADDR": f"ipc:///{'a' * 107}"},
            f"WEBAPP_ZMQ_ADDR=ipc:///{'a' * 107}: the path has 108 bytes, 107 are possible. Use a shorter path",
        ),
        (
            {"WEBAPP_ALLOWED_HOSTS": "http://a.example"},
            "WEBAPP_ALLOWED_HOSTS=http://a.example: not a list of host names. Use the form",
        ),
        ({"HOST": "ü" * 70}, f"HOST={'ü' * 70}: no address. Use an address of this machine"),
        ({"HOST": ""}, "HOST=: no address. Use an address of this machine"),
        ({"PORT": "8000.0"}, "PORT=8000.0: not a port. Use a number from 1 to 65535"),
    ],
)
def test_a_setting_that_cannot_work_ends_it_with_one_line(
    module: str, name: str, settings: dict[str, str], line: str
) -> None:
    ended = run(module, **{"PORT": str(free_port()), "WEBAPP_OUTBOX": "", **settings})
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{name}: {line}")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("module, name", [("api", "trading-api"), ("ui", "trading-app")])
def test_a_taken_port_ends_it_with_one_line(module: str, name: str, sidecar: FakeSidecar) -> None:
    port = sidecar.address.rsplit(":", 1)[1]
    ended = run(module, PORT=port)
    assert ended.returncode == 1
    assert ended.stderr == f"{name}: PORT={port}: another program listens there. Stop it, or choose another port\n"
