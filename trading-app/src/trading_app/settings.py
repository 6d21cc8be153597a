"""Settings, read from the environment at the start."""

import errno
import os
import re
import socket
from collections.abc import Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trading_app.curve import load_keys

_TCP = re.compile(r"tcp://(?:\[(?P<ipv6>[^\s\]]+)\]|[^\s:/\[\]*]+):(?P<port>[0-9]{1,5})")
# The size of the kernel's sun_path, without the final zero byte.
_MAX_IPC = 107
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORMS = {
    "WEBAPP_ZMQ_ADDR": ("not a ZeroMQ address", "Use the form tcp://localhost:5555"),
    "WEBAPP_SIDECAR_URL": ("not an HTTP address", "Use the form http://localhost:8001"),
    "WEBAPP_PROMETHEUS_URL": ("not an HTTP address", "Use the form http://localhost:9090"),
    "WEBAPP_GRAFANA_URL": ("not an HTTP address", "Use the form http://localhost:3000"),
    "WEBAPP_UI_URL": ("not an HTTP address", "Use the form http://localhost:8501"),
    "WEBAPP_ALLOWED_HOSTS": ("not a list of host names", "Use the form trading.example,desk.example"),
    "HOST": ("not an address", "Use an address of this machine, such as 127.0.0.1"),
    "PORT": ("not a port", "Use a number from 1 to 65535"),
}


class SettingError(Exception):
    """A setting is invalid. The message is one line with the key, the value, the cause and the remedy."""

    def __init__(self, key: str, value: str, cause: str, remedy: str) -> None:
        super().__init__(f"{key}={value}: {cause}. {remedy}")


def _endpoint(value: str) -> str:
    """Refuse addresses that ZeroMQ accepts but misreads: it connects to port 34463 for 99999."""
    if value.startswith("ipc://"):
        size = len(os.fsencode(value.removeprefix("ipc://")))
        if size > _MAX_IPC:
            raise ValueError(f"the path has {size} bytes, the limit is {_MAX_IPC}", "Use a shorter path")
        if size:
            return value
    elif (tcp := _TCP.fullmatch(value)) and 1 <= int(tcp["port"]) <= 65535:
        if tcp["ipv6"]:
            IPv6Address(tcp["ipv6"])
        return value
    raise ValueError("not a ZeroMQ address")


def _host(value: str) -> str:
    value.encode("idna")
    return value


def _port(value: str | int) -> str | int:
    """Refuse numbers that pydantic would accept, such as 8001.0."""
    if not re.fullmatch("[0-9]{1,5}", str(value)):
        raise ValueError("not a port")
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if not re.fullmatch(r"https?://[^\s?#]+", value) or not parts.hostname or parts.port == 0:
        raise ValueError("not an HTTP address")
    parts.hostname.encode("idna")
    return value.rstrip("/")


def _host_names(value: str) -> list[str]:
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    if not all(map(_HOST_NAME.fullmatch, names)):
        raise ValueError("not a list of host names")
    return names


def _curve(value: Path | None) -> Path | None:
    if value:
        load_keys(value)
    return value


type _Endpoint = Annotated[str, AfterValidator(_endpoint)]
type _Url = Annotated[str, AfterValidator(_url)]


class PublisherSettings(BaseModel):
    """The settings of a publisher.

    ``outbox`` is a folder, or empty to keep trades in memory. ``curve`` is the folder of the keys, or None to send
    without encryption.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    zmq_addr: _Endpoint = Field(default="tcp://localhost:5555", alias="WEBAPP_ZMQ_ADDR")
    sidecar_url: _Url = Field(default="http://localhost:8001", alias="WEBAPP_SIDECAR_URL")
    outbox: str = Field(default=".data/outbox", alias="WEBAPP_OUTBOX")
    curve: Annotated[Path | None, BeforeValidator(lambda value: value or None), AfterValidator(_curve)] = Field(
        default=None, alias="WEBAPP_CURVE"
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings.

        Raises:
            SettingError: a value is invalid.
        """
        try:
            return cls.model_validate(environ)
        except ValidationError as error:
            problem = error.errors()[0]
            key = str(problem["loc"][0])
            reasons = problem.get("ctx", {}).get("error", ValueError()).args
            cause, remedy = reasons if len(reasons) == 2 else _FORMS[key]
            raise SettingError(key, environ[key], cause, remedy) from None


class Settings(PublisherSettings):
    """The settings of page and API.

    The page queries ``prometheus_url`` and links to ``grafana_url``. The API redirects HTML forms to ``ui_url``.
    ``allowed_hosts`` are the host names with a dot under which page and API may be reached.
    """

    prometheus_url: _Url = Field(default="http://localhost:9090", alias="WEBAPP_PROMETHEUS_URL")
    grafana_url: _Url = Field(default="http://localhost:3000", alias="WEBAPP_GRAFANA_URL")
    ui_url: _Url = Field(default="http://localhost:8501", alias="WEBAPP_UI_URL")
    allowed_hosts: Annotated[frozenset[str], BeforeValidator(_host_names)] = Field(
        default=frozenset(), alias="WEBAPP_ALLOWED_HOSTS"
    )
    host: Annotated[str, AfterValidator(_host)] = Field(default="127.0.0.1", alias="HOST", min_length=1)
    port: Annotated[int, BeforeValidator(_port)] = Field(alias="PORT", ge=1, le=65535)

    @classmethod
    def from_environ(cls, port: int, environ: Mapping[str, str] = os.environ) -> Self:
        """Like `read`. ``port`` is the default of PORT."""
        return cls.read({"PORT": str(port), **environ})

    @property
    def ui_origin(self) -> str:
        """The origin of the page, as a browser sends it."""
        parts = urlsplit(self.ui_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = "" if parts.port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}"


def require_free(host: str, port: int) -> None:
    """Check that the HTTP port can be bound, so that a program fails early and with one line.

    Raises:
        SettingError: the port is in use or not allowed for this user, or the host is not an address of this machine.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Bind without listening, so that no client can connect.
            probe.bind((host, port))
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                problem = ("PORT", str(port), "another program listens there", "Stop it, or choose another port")
            case errno.EACCES:
                problem = ("PORT", str(port), "this user may not listen there", "Choose a port above 1023")
            case _:
                problem = ("HOST", host, str(error.strerror), "Use an address of this machine, such as 127.0.0.1")
        raise SettingError(*problem) from None
