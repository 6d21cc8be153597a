"""Loads the CURVE keys of a publisher."""

import logging
from os import PathLike
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from trading_app.outlet import Keys

_OWN = "client.key_secret"
_SERVER = "server.key"

log = logging.getLogger(__name__)


class CurveError(ValueError):
    """The folder does not hold usable keys. The arguments are the cause and the remedy."""

    def __str__(self) -> str:
        return ". ".join(self.args)


def load_keys(folder: str | PathLike[str]) -> Keys:
    """Return the keys in ``client.key_secret`` and ``server.key``.

    Raises:
        CurveError: a file is missing or holds no such key.
    """
    folder = Path(folder)
    try:
        _, secret = _load(folder / _OWN)
        server, _ = _load(folder / _SERVER)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CurveError(f"there is no {error.filename}", "Make it with bin/keys NAME") from None
    except OSError as error:
        raise CurveError(f"{error.filename}: {error.strerror}", "Let this user read it") from None
    try:
        public = zmq.curve_public(secret)
    except (ValueError, zmq.ZMQError):
        raise CurveError(f"{folder / _OWN} holds no secret key", "Make another with bin/keys NAME") from None
    if not _is_key(server):
        raise CurveError(f"{folder / _SERVER} holds no public key", "Copy it from the folder that bin/keys made")
    return Keys(public, secret, server)


def warn_if_exposed(folder: str | PathLike[str]) -> None:
    """Log a warning if every user of this machine can use the secret key."""
    path = Path(folder) / _OWN
    if path.stat().st_mode & 0o007:
        log.warning("every user of this machine can use %s: chmod 600 it", path)


def _load(path: Path) -> tuple[bytes, bytes]:
    """Return the public and the secret key of a file. A missing key is empty."""
    path.stat()
    try:
        public, secret = load_certificate(path)
    except (ValueError, IndexError):
        return b"", b""
    return public, secret or b""


def _is_key(value: bytes) -> bool:
    try:
        return len(z85.decode(value)) == 32
    except (ValueError, KeyError):
        return False
