"""Settings: an invalid value is refused in one line, with the key, the value, the cause and the remedy."""

import errno
import socket
from pathlib import Path

import pytest

from trading_app.settings import SettingError, Settings, require_free

ZMQ, URL, HOSTS = "not a ZeroMQ address", "not an HTTP address", "not a list of host names"


def read(**environ: str) -> Settings:
    return Settings.from_environ(8000, environ)


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = read()
    assert (settings.zmq_addr, settings.sidecar_url) == ("tcp://localhost:5555", "http://localhost:8001")
    assert (settings.outbox, settings.curve) == (".data/outbox", None)
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.allowed_hosts == frozenset()


@pytest.mark.parametrize(
    "address", ["tcp://localhost:5555", "tcp://10.0.0.1:65535", "tcp://[::1]:1", "ipc:///" + 106 * "a"]
)
def test_a_zeromq_address_is_accepted(address: str) -> None:
    assert read(WEBAPP_ZMQ_ADDR=address).zmq_addr == address


def test_an_http_address_loses_its_final_slash() -> None:
    assert read(WEBAPP_SIDECAR_URL="https://example.com/sidecar/").sidecar_url == "https://example.com/sidecar"


def test_allowed_hosts_are_separated_by_commas_and_lower_case() -> None:
    assert read(WEBAPP_ALLOWED_HOSTS=" Trading.example, desk.example,").allowed_hosts == {
        "trading.example",
        "desk.example",
    }


@pytest.mark.parametrize("port", ["1", "65535"])
def test_a_port_is_accepted(port: str) -> None:
    assert read(PORT=port).port == int(port)


def test_an_empty_curve_folder_means_no_encryption() -> None:
    assert read(WEBAPP_CURVE="").curve is None


@pytest.mark.parametrize(
    "url, origin",
    [
        ("http://Desk.example:8501/page", "http://desk.example:8501"),
        ("http://desk.example:80", "http://desk.example"),
        ("https://desk.example:443/page", "https://desk.example"),
        ("https://desk.example:80", "https://desk.example:80"),
        ("http://[::1]:8501", "http://[::1]:8501"),
        ("http://user:secret@desk.example", "http://desk.example"),
    ],
)
def test_the_origin_of_the_page_is_what_a_browser_sends(url: str, origin: str) -> None:
    assert read(WEBAPP_UI_URL=url).ui_origin == origin


@pytest.mark.parametrize(
    "key, value, cause",
    [
        pytest.param("PORT", "abc", "not a port", id="port is a word"),
        pytest.param("PORT", "0", "not a port", id="port 0"),
        pytest.param("PORT", "65536", "not a port", id="port above the limit"),
        pytest.param("PORT", "8000.0", "not a port", id="port is a fraction"),
        pytest.param("HOST", "", "not an address", id="host is empty"),
        pytest.param("HOST", "ü" * 70, "not an address", id="host is too long"),
        pytest.param("WEBAPP_ZMQ_ADDR", "tcp://nowhere", ZMQ, id="zmq without a port"),
        pytest.param("WEBAPP_ZMQ_ADDR", "tcp://a:0", ZMQ, id="zmq port 0"),
        pytest.param("WEBAPP_ZMQ_ADDR", "tcp://a:65536", ZMQ, id="zmq port above the limit"),
        pytest.param("WEBAPP_ZMQ_ADDR", "tcp://*:5555", ZMQ, id="zmq wildcard"),
        pytest.param("WEBAPP_ZMQ_ADDR", "tcp://[::x]:5555", ZMQ, id="zmq bad IPv6"),
        pytest.param("WEBAPP_ZMQ_ADDR", "ipc://", ZMQ, id="ipc without a path"),
        pytest.param("WEBAPP_SIDECAR_URL", "localhost:8001", URL, id="url without a scheme"),
        pytest.param("WEBAPP_SIDECAR_URL", "http://[::1", URL, id="url bad IPv6"),
        pytest.param("WEBAPP_SIDECAR_URL", f"http://{'ü' * 70}", URL, id="url host too long"),
        pytest.param("WEBAPP_SIDECAR_URL", "http://a:0", URL, id="url port 0"),
        pytest.param("WEBAPP_SIDECAR_URL", "http://a/?q", URL, id="url with a query"),
        pytest.param("WEBAPP_UI_URL", "http://a:99999", URL, id="url port above the limit"),
        pytest.param("WEBAPP_ALLOWED_HOSTS", "http://a.example", HOSTS, id="allowed host is a url"),
    ],
)
def test_an_invalid_value_is_refused(key: str, value: str, cause: str) -> None:
    with pytest.raises(SettingError) as refused:
        read(**{key: value})
    line = str(refused.value)
    assert line.startswith(f"{key}={value}: {cause}. Use ")
    assert "\n" not in line


def test_an_ipc_path_longer_than_the_kernel_allows_is_refused() -> None:
    with pytest.raises(SettingError, match=r": the path has 108 bytes, the limit is 107\. Use a shorter path$"):
        read(WEBAPP_ZMQ_ADDR=f"ipc:///{'a' * 107}")


def test_a_curve_folder_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as refused:
        read(WEBAPP_CURVE=str(tmp_path))
    assert str(refused.value) == (
        f"WEBAPP_CURVE={tmp_path}: there is no {tmp_path}/client.key_secret. Make it with bin/keys NAME"
    )


def test_a_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "client.key_secret"
    key.mkdir()
    with pytest.raises(SettingError) as refused:
        read(WEBAPP_CURVE=str(tmp_path))
    assert str(refused.value) == f"WEBAPP_CURVE={tmp_path}: {key}: Is a directory. Let this user read it"


@pytest.mark.parametrize("host, family", [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)], ids=["v4", "v6"])
def test_a_port_in_use_is_refused_until_it_is_free(host: str, family: socket.AddressFamily) -> None:
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=rf"^PORT={port}: another program listens there\. "):
            require_free(host, port)
    require_free(host, port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^HOST=192\.0\.2\.1: .+\. Use an address of this machine"):
        require_free("192.0.2.1", 1)


def test_a_port_that_this_user_may_not_bind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ports are privileged depends on the machine, and root may bind them all, so bind() is replaced."""

    class Socket(socket.socket):
        def bind(self, _: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("trading_app.settings.socket.socket", Socket)
    with pytest.raises(SettingError, match=r"^PORT=80: this user may not listen there\. Choose a port above 1023$"):
        require_free("127.0.0.1", 80)
