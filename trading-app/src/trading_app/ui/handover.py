"""State that a page's server hands over to the one that hot reload starts in its place."""

import hashlib
import logging
import multiprocessing
import threading
from pathlib import Path

import msgspec
from msgspec import Struct

from trading_app.losses import Status
from trading_app.messages import Trade
from trading_app.ui.simulator import FlowSettings

log = logging.getLogger(__name__)


class Sent(Struct):
    """A trade made on the page, its state, and the Unix time at which that became known."""

    trade: Trade
    status: Status = "waiting"
    settled_at: float | None = None


class State(Struct):
    """The trades made on the page, newest first, their sessions, the last symbol, and the running flow.

    ``supervisor`` names the process that restarts the server.
    """

    supervisor: str
    log: list[Sent] = []
    sessions: list[str] = []
    symbol: str = "BTC-USD"
    flow: FlowSettings | None = None


class Handover:
    """Keeps the state in a file for the next server of the same supervisor; without hot reload it writes nothing."""

    def __init__(self, path: Path | None) -> None:
        supervisor = _supervisor()
        self._path = path if supervisor else None
        self.state = self._load(supervisor)
        self._lock = threading.Lock()

    def save(self) -> None:
        if not self._path:
            return
        replacement = self._path.with_suffix(".new")
        try:
            with self._lock:
                replacement.write_bytes(msgspec.json.encode(self.state))
                replacement.replace(self._path)
        except OSError as error:
            log.warning("%s: %s. The page forgets its trades at the next reload", self._path, error.strerror)

    def _load(self, supervisor: str) -> State:
        if self._path and self._path.exists():
            try:
                state = msgspec.json.decode(self._path.read_bytes(), type=State)
            except (OSError, msgspec.MsgspecError):  # written by another version
                return State(supervisor)
            if state.supervisor == supervisor:
                return state
        return State(supervisor)


def _supervisor() -> str:
    """An identifier of the process that restarts this one, unique for all time; empty without one."""
    if not multiprocessing.parent_process():
        return ""
    return hashlib.sha256(multiprocessing.current_process().authkey).hexdigest()
