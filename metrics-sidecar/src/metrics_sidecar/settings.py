"""Settings, read from the environment once at startup."""

import errno
import os
import re
import socket
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from metrics_sidecar.curve import load_server_key
from metrics_sidecar.tallies import MAX_SYMBOLS

TCP = re.compile(r"tcp://(?P<host>\[(?P<ipv6>[^\s\]]+)\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
# sun_path has 108 bytes, including the terminating zero.
_MAX_IPC = 107
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
# Each symbol adds six lines to every scrape.
_MAX_SYMBOLS = 10_000
_FORMS = {
    "SIDECAR_ZMQ_BIND": ("not a ZeroMQ address", "Use the form tcp://0.0.0.0:5555"),
    "SIDECAR_SYMBOLS": ("not a number of symbols", f"Use a number from 0 to {_MAX_SYMBOLS}"),
    "SIDECAR_ALLOWED_HOSTS": ("not a list of host names", "Use the form host-1.example,telemetry.example"),
    "HOST": ("not an address", "Use an address of this machine, such as 0.0.0.0"),
    "PORT": ("not a port", "Use a number from 1 to 65535"),
}


class SettingError(Exception):
    """A setting is invalid or unusable. The message is one line with key, value, cause and remedy."""

    def __init__(self, key: str, value: str, cause: str, remedy: str) -> None:
        super().__init__(f"{key}={value}: {cause}. {remedy}")


def _endpoint(value: str) -> str:
    """Refuse endpoints that ZeroMQ accepts but misreads: it binds port 99999 as 34463."""
    if value.startswith("ipc://"):
        size = len(os.fsencode(value.removeprefix("ipc://")))
        if size > _MAX_IPC:
            raise ValueError(f"the path has {size} bytes, the limit is {_MAX_IPC}", "Use a shorter path")
        if size:
            return value
    elif (tcp := TCP.fullmatch(value)) and 1 <= int(tcp["port"]) <= 65535:
        if tcp["ipv6"]:
            IPv6Address(tcp["ipv6"])
        return value
    raise ValueError("not a ZeroMQ address")


def _host(value: str) -> str:
    value.encode("idna")
    return value


def _host_names(value: str) -> list[str]:
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    if not all(map(_HOST_NAME.fullmatch, names)):
        raise ValueError("not a list of host names")
    return names


def _digits(value: str | int) -> str | int:
    """Refuse values such as 8001.0, which pydantic accepts as whole numbers."""
    if not re.fullmatch("[0-9]{1,5}", str(value)):
        raise ValueError("not a whole number")
    return value


def _curve(value: Path | None) -> Path | None:
    if value:
        load_server_key(value)
    return value


class Settings(BaseModel):
    """The sidecar's settings.

    ``state`` None keeps totals in memory only. ``curve`` None disables encryption. ``allowed_hosts`` are the host names
    with a dot under which clients may reach the HTTP interface.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    zmq_bind: Annotated[str, AfterValidator(_endpoint)] = Field(default="tcp://0.0.0.0:5555", alias="SIDECAR_ZMQ_BIND")
    state: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = Field(
        default=Path(".data/sidecar.sqlite3"), alias="SIDECAR_STATE"
    )
    symbols: Annotated[int, BeforeValidator(_digits)] = Field(
        default=MAX_SYMBOLS, alias="SIDECAR_SYMBOLS", le=_MAX_SYMBOLS
    )
    curve: Annotated[Path | None, BeforeValidator(lambda value: value or None), AfterValidator(_curve)] = Field(
        default=None, alias="SIDECAR_CURVE"
    )
    allowed_hosts: Annotated[frozenset[str], BeforeValidator(_host_names)] = Field(
        default=frozenset(), alias="SIDECAR_ALLOWED_HOSTS"
    )
    host: Annotated[str, AfterValidator(_host)] = Field(default="0.0.0.0", alias="HOST", min_length=1)
    port: Annotated[int, BeforeValidator(_digits)] = Field(default=8001, alias="PORT", ge=1, le=65535)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings.

        Raises:
            SettingError: a value is invalid.
        """
        try:
            return cls.model_validate(dict(environ))
        except ValidationError as error:
            problem = error.errors()[0]
            key = str(problem["loc"][0])
            reasons = problem.get("ctx", {}).get("error", ValueError()).args
            cause, remedy = reasons if len(reasons) == 2 else _FORMS[key]
            raise SettingError(key, environ[key], cause, remedy) from None


def is_loopback(endpoint: str) -> bool:
    """Whether a ZeroMQ endpoint is reachable from this machine only."""
    tcp = TCP.fullmatch(endpoint)
    host = tcp["ipv6"] or tcp["host"] if tcp else "localhost"
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # The name of a network interface.
        return False


def require_free(host: str, port: int) -> None:
    """Check that the HTTP address can be bound, so that the program fails early and with one line.

    Raises:
        SettingError: the port is in use or not permitted, or the host is not an address of this machine.
    """
    try:
        try_bind(host, port)
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                problem = ("PORT", str(port), "another program listens there", "Stop it, or choose another port")
            case errno.EACCES:
                problem = ("PORT", str(port), "this user may not listen there", "Choose a port above 1023")
            case _:
                problem = ("HOST", host, str(error.strerror), "Use an address of this machine, such as 0.0.0.0")
        raise SettingError(*problem) from None


def try_bind(host: str, port: int) -> None:
    """Bind an address and release it. The socket never listens, so no client can connect to it.

    Raises:
        OSError: the address cannot be bound.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
