"""Settings, read from the environment once at the start."""

import errno
import os
import re
import socket
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

_TCP = re.compile(r"tcp://(?:\[[^\s\]]+\]|[^\s:/\[\]*]+):(?P<port>\d+)")
_FORMS = {
    "WEBAPP_ZMQ_ADDR": ("not a ZeroMQ address", "Use the form tcp://localhost:5555"),
    "WEBAPP_SIDECAR_URL": ("not an HTTP address", "Use the form http://localhost:8001"),
    "WEBAPP_PROMETHEUS_URL": ("not an HTTP address", "Use the form http://localhost:9090"),
    "WEBAPP_GRAFANA_URL": ("not an HTTP address", "Use the form http://localhost:3000"),
    "WEBAPP_UI_URL": ("not an HTTP address", "Use the form http://localhost:8501"),
    "PORT": ("not a port", "Use a number from 1 to 65535"),
}


class SettingError(Exception):
    """A setting that cannot work. The message is one line: the key, its value, what is wrong, the way out."""

    def __init__(self, key: str, value: str, cause: str, way_out: str) -> None:
        super().__init__(f"{key}={value}: {cause}. {way_out}")


def _endpoint(value: str) -> str:
    """Refuse what ZeroMQ would take and misread: it connects to port 99999 as 34463."""
    tcp = _TCP.fullmatch(value)
    if not (tcp and 1 <= int(tcp["port"]) <= 65535) and not value.startswith("ipc://"):
        raise ValueError("not a ZeroMQ address")
    return value


type _Endpoint = Annotated[str, AfterValidator(_endpoint)]
type _Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+[^\s]*$"), AfterValidator(lambda url: url.rstrip("/"))]


class Settings(BaseModel):
    """The settings of the programs that publish. ``outbox`` is a folder, or empty for memory.

    ``prometheus_url`` and ``grafana_url`` are for the page; ``ui_url`` is where the HTTP API sends a browser back to.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    zmq_addr: _Endpoint = Field(default="tcp://localhost:5555", alias="WEBAPP_ZMQ_ADDR")
    sidecar_url: _Url = Field(default="http://localhost:8001", alias="WEBAPP_SIDECAR_URL")
    outbox: str = Field(default=".data/outbox", alias="WEBAPP_OUTBOX")
    prometheus_url: _Url = Field(default="http://localhost:9090", alias="WEBAPP_PROMETHEUS_URL")
    grafana_url: _Url = Field(default="http://localhost:3000", alias="WEBAPP_GRAFANA_URL")
    ui_url: _Url = Field(default="http://localhost:8501", alias="WEBAPP_UI_URL")
    host: str = Field(default="0.0.0.0", alias="HOST")
    port: int = Field(alias="PORT", ge=1, le=65535)

    @classmethod
    def from_environ(cls, port: int, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings, with ``port`` where none is set.

        Raises:
            SettingError: a value is not of the form its key needs.
        """
        try:
            return cls.model_validate({"PORT": port, **environ})
        except ValidationError as error:
            key = str(error.errors()[0]["loc"][0])
            raise SettingError(key, environ[key], *_FORMS[key]) from None


def require_free(host: str, port: int) -> None:
    """Bind the HTTP port and let go: a program that would fail later fails now, and in one line.

    Raises:
        SettingError: the port is taken, or not this user's to take, or the host is not this machine's.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Without listening, so that no one can connect to what is gone at once.
            probe.bind((host, port))
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                problem = ("PORT", str(port), "another program listens there", "Stop it, or choose another port")
            case errno.EACCES:
                problem = ("PORT", str(port), "this user may not listen there", "Choose a port above 1023")
            case _:
                problem = ("HOST", host, str(error.strerror), "Use an address of this machine, such as 0.0.0.0")
        raise SettingError(*problem) from None
