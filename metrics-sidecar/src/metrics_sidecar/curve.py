"""CURVE: the sidecar's key, the publishers that may send, and the gate that nobody else passes."""

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
_DOMAIN = "sidecar"
# Handshakes that are answered in one go, while frames and questions wait.
_BATCH = 100
_DONTWAIT = int(zmq.DONTWAIT)
# A key that is not allowed is counted where it is looked up.
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_CAUSES: dict[int, str] = {
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "without CURVE",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "another server key, or no key of its own",
}

log = logging.getLogger(__name__)


class CurveError(ValueError):
    """The folder cannot be used. Its arguments are the cause and the remedy."""


def load_server_key(folder: Path) -> bytes:
    """The secret key in ``server.key_secret``.

    Raises:
        CurveError: the folder has no such key, or no folder ``clients``.
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
    except (ValueError, zmq.ZMQError):
        raise CurveError(f"{path} holds no secret key", "Make another with bin/keys NAME") from None
    return secret


class Keys:
    """The secret key of the sidecar, and the public keys that are allowed: those of the files ``clients/*.key``.

    Args:
        folder: what ``SIDECAR_CURVE`` names.

    Raises:
        CurveError: it cannot be used.
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

    def allow(self, key: str) -> bool:
        """Whether a public key, in Z85, is on the list that was read last."""
        return key in self._allowed

    def read(self) -> None:
        """Read the list anew. A file that cannot be read for now stands for the key that it had."""
        by_file: dict[str, str] = {}
        problems: list[str] = []
        for path in sorted(self._folder.glob("*.key")):
            try:
                by_file[path.name] = load_certificate(path)[0].decode("ascii")
            except ValueError:
                problems.append(f"{path} holds no public key")
            except OSError as error:
                problems.append(f"{path}: {error.strerror or error}")
                if path.name in self._by_file:
                    by_file[path.name] = self._by_file[path.name]
        self._by_file = by_file
        self._note(frozenset(by_file.values()), problems)

    def _note(self, allowed: frozenset[str], problems: list[str]) -> None:
        if problems != self._problems:
            log.warning("%s", "; ".join(problems) or "all public keys can be read again")
        if allowed != self._allowed:
            log.info("keys that may send: %d", len(allowed))
        self._allowed, self._problems = allowed, problems


class Gate:
    """Makes a PULL socket a CURVE server, and hands out the frames of those keys only that are allowed now.

    Attributes:
        refused: frames of other keys, and failed handshakes.
    """

    def __init__(self, keys: Keys) -> None:
        self.refused = 0
        self._keys = keys
        self._read_at = 0.0
        self._throttle = Throttle()

    def guard(self, pull: zmq.Socket[bytes]) -> None:
        """Guard a socket that is not bound yet."""
        self._socket = pull
        self._authenticator = Authenticator(pull.context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(_DOMAIN, self)
        pull.set(zmq.CURVE_SERVER, 1)
        pull.set(zmq.CURVE_SECRETKEY, self._keys.secret)
        pull.set(zmq.ZAP_DOMAIN, _DOMAIN.encode())
        # Without an authenticator, as while this is closed, nobody gets in.
        pull.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._monitor = pull.get_monitor_socket(_FAILURES)
        # A full queue of events would block the thread that does all I/O.
        self._monitor.set(zmq.RCVHWM, 0)
        self.sockets = (self._authenticator.zap_socket, self._monitor)

    def receive(self, max_frames: int, max_bytes: int) -> list[bytes]:
        """The allowed ones of the frames that are there, up to a batch."""
        self._tend()
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
        """Whether a key may connect. What connected once is looked at again with each frame."""
        allowed = self._keys.allow(key.decode())
        if not allowed:
            self._refuse("connection", f"of key {key.decode()}, which no file in clients/ has")
        return allowed

    def close(self) -> None:
        """Let nobody in any more."""
        self._authenticator.stop()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def _tend(self) -> None:
        """Read the list again when it is time, answer handshakes, count those that failed."""
        now = time.monotonic()
        if now >= self._read_at:
            self._read_at = now + _READ_INTERVAL
            self._keys.read()
        with suppress(zmq.Again):
            for _ in range(_BATCH):
                request = self._authenticator.zap_socket.recv_multipart(_DONTWAIT)
                # It ends at once: `callback` has nothing to wait for.
                with suppress(StopIteration):
                    self._authenticator.handle_zap_message(request).send(None)
        with suppress(zmq.Again):
            for _ in range(_BATCH):
                event = parse_monitor_message(self._monitor.recv_multipart(_DONTWAIT))
                self._refuse("connection", f"({_CAUSES.get(event['value'], 'ended before its key was known')})")

    def _admits(self, frame: zmq.Frame) -> bool:
        key = str(frame.get("User-Id"))
        if self._keys.allow(key):
            return True
        self._refuse("frame", f"of key {key} from {frame.get('Peer-Address')}, which no file in clients/ has")
        return False

    def _refuse(self, kind: str, description: str) -> None:
        self.refused += 1
        # Anyone can connect, but frames come from keys that were allowed once: those lines must not get lost.
        self._throttle.warn(kind, f"refused a {kind} {description}")
