"""CURVE: the sidecar's key, the list of allowed publisher keys, and the gate that enforces the list."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.auth import Authenticator, load_certificate
from zmq.utils.monitor import parse_monitor_message

from metrics_sidecar.throttle import Throttle

_READ_INTERVAL = 0.5
_UNKNOWN = "no file in clients/ has this key"
_DOMAIN = "sidecar"
# Handshakes answered before frames and questions get a turn.
_BATCH = 100
_DONTWAIT = int(zmq.DONTWAIT)
# The authenticator's callback counts keys that are not allowed; these events cover all other failures.
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_CAUSES: dict[int, str] = {
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "the peer does not use CURVE",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "the peer has a wrong server key, or no key of its own",
}

log = logging.getLogger(__name__)


class CurveError(ValueError):
    """The folder cannot be used. ``args`` are the cause and the remedy."""


def load_server_key(folder: Path) -> bytes:
    """Read the secret key, in Z85, from ``server.key_secret``.

    Raises:
        CurveError: the key or the folder ``clients`` is missing, unreadable or invalid.
    """
    path = folder / "server.key_secret"
    try:
        path.stat()
        os.scandir(folder / "clients").close()
        secret = load_certificate(path)[1] or b""
        zmq.curve_public(secret)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CurveError(f"there is no {error.filename}", "Make it with bin/keys NAME") from None
    except OSError as error:
        raise CurveError(f"{error.filename}: {error.strerror}", "Let this user read it") from None
    except (ValueError, IndexError, zmq.ZMQError):
        raise CurveError(f"{path} holds no secret key", "Make another with bin/keys NAME") from None
    return secret


class Keys:
    """The sidecar's secret key and the allowed public keys, which are read from ``clients/*.key``.

    Args:
        folder: the folder that ``SIDECAR_CURVE`` names.

    Raises:
        CurveError: the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.secret = load_server_key(folder)
        if (folder / "server.key_secret").stat().st_mode & 0o007:
            log.warning("every user of this machine can use %s: chmod 600 it", folder / "server.key_secret")
        self._folder = folder / "clients"
        self._by_file: dict[str, str] = {}
        self._allowed: frozenset[str] = frozenset()
        self._problems: list[str] = []
        self.read()

    def allows(self, key: str) -> bool:
        """Whether a public key, in Z85, was on the list when it was last read."""
        return key in self._allowed

    def read(self) -> None:
        """Read the list again. A folder or file that is temporarily unreadable keeps its last known keys."""
        try:
            paths = self._paths()
        except OSError as error:
            self._update(self._allowed, [f"{self._folder}: {error.strerror or error}"])
            return
        by_file: dict[str, str] = {}
        problems: list[str] = []
        for path in paths:
            try:
                by_file[path.name] = load_certificate(path)[0].decode("ascii")
            except (ValueError, IndexError):
                problems.append(f"{path} holds no public key")
            except OSError as error:
                problems.append(f"{path}: {error.strerror or error}")
                if path.name in self._by_file:
                    by_file[path.name] = self._by_file[path.name]
        self._by_file = by_file
        self._update(frozenset(by_file.values()), problems)

    def _paths(self) -> list[Path]:
        """The files of the list. Raises OSError if the folder is there and cannot be listed."""
        # `Path.glob` would return nothing, and that would revoke every key.
        try:
            with os.scandir(self._folder) as entries:
                return sorted(Path(entry) for entry in entries if entry.name.endswith(".key"))
        except FileNotFoundError:
            return []

    def _update(self, allowed: frozenset[str], problems: list[str]) -> None:
        if problems != self._problems:
            log.warning("%s", "; ".join(problems) or "all public keys are readable again")
        if allowed != self._allowed:
            log.info("allowed keys: %d", len(allowed))
        self._allowed, self._problems = allowed, problems


class Gate:
    """Makes a PULL socket a CURVE server and passes on only frames whose key is allowed at that moment.

    Attributes:
        refused: number of frames from other keys and of failed handshakes.
    """

    def __init__(self, keys: Keys) -> None:
        self.refused = 0
        self._keys = keys
        self._read_at = 0.0
        self._throttle = Throttle()

    def guard(self, pull: zmq.Socket[bytes]) -> None:
        """Guard a socket, before it is bound."""
        self._socket = pull
        self._authenticator = Authenticator(pull.context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(_DOMAIN, self)
        pull.set(zmq.CURVE_SERVER, 1)
        pull.set(zmq.CURVE_SECRETKEY, self._keys.secret)
        pull.set(zmq.ZAP_DOMAIN, _DOMAIN.encode())
        # Refuse everyone while the authenticator is closed.
        pull.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._monitor = pull.get_monitor_socket(_FAILURES)
        # A full event queue would block libzmq's I/O thread.
        self._monitor.set(zmq.RCVHWM, 0)
        self.sockets = (self._authenticator.zap_socket, self._monitor)

    def receive(self, max_frames: int, max_bytes: int) -> list[bytes]:
        """Return the allowed frames among those that have arrived, without waiting."""
        self._serve_handshakes()
        frames: list[bytes] = []
        size = 0
        with suppress(zmq.Again):
            for _ in range(max_frames):
                frame = self._socket.recv(_DONTWAIT, copy=False)
                size += len(frame)
                if self._admits(frame):
                    frames.append(frame.bytes)
                if size >= max_bytes:
                    break
        return frames

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - the authenticator calls it
        """Whether a key may connect. `receive` checks the key again for each frame."""
        allowed = self._keys.allows(key.decode())
        if not allowed:
            self._refuse("connection", f"refused a connection from key {key.decode()}: {_UNKNOWN}")
        return allowed

    def close(self) -> None:
        """Refuse everyone and release the sockets. Can be called again."""
        if self._socket.closed:
            return
        self._authenticator.stop()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def _serve_handshakes(self) -> None:
        """Refresh the list if it is due, answer handshakes, count failed ones."""
        now = time.monotonic()
        if now >= self._read_at:
            self._read_at = now + _READ_INTERVAL
            self._keys.read()
        with suppress(zmq.Again):
            for _ in range(_BATCH):
                request = self._authenticator.zap_socket.recv_multipart(_DONTWAIT)
                # The coroutine ends at the first step: `callback` waits for nothing.
                with suppress(StopIteration):
                    self._authenticator.handle_zap_message(request).send(None)
        with suppress(zmq.Again):
            for _ in range(_BATCH):
                event = parse_monitor_message(self._monitor.recv_multipart(_DONTWAIT))
                cause = _CAUSES.get(event["value"], "the handshake failed")
                self._refuse("connection", f"refused a connection: {cause}")

    def _admits(self, frame: zmq.Frame) -> bool:
        key = str(frame.get("User-Id"))
        if self._keys.allows(key):
            return True
        self._refuse("frame", f"refused a frame from key {key} at {frame.get('Peer-Address')}: {_UNKNOWN}")
        return False

    def _refuse(self, kind: str, line: str) -> None:
        self.refused += 1
        # Throttled apart: connections, which anyone can open, must not hide frames from a key that was allowed once.
        self._throttle.warn(kind, line)
