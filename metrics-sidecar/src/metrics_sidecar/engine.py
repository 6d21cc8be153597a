"""The one thread that owns socket, ledger and store. All others ask it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice

from metrics_sidecar.commits import Commits
from metrics_sidecar.curve import Keys
from metrics_sidecar.exposition import Snapshot
from metrics_sidecar.inlet import MEMORY_LIMIT, BindError, Inlet
from metrics_sidecar.messages import Message, decode
from metrics_sidecar.questions import NoAnswer, Questions
from metrics_sidecar.recent import CountedTrade
from metrics_sidecar.store import Cursor, Store
from metrics_sidecar.store_error import StoreError
from metrics_sidecar.tallies import MAX_SYMBOLS
from metrics_sidecar.throttle import Throttle

_POLL_SECONDS = 0.05
# Messages that are applied in one go, while questions wait. Each takes some microseconds at most.
_SLICE = 1_000
# A publisher that goes on and on must not keep a stop from ending, nor a disk that hangs.
_DRAIN_SECONDS = 1.0
_JOIN_SECONDS = 5.0

log = logging.getLogger(__name__)


class Engine:
    """Counts what arrives from `start` to `stop`; the endpoint is bound at once.

    `snapshot`, `last_trades`, `cursor` and `problem` are for `ask` only: they run in the engine's thread.

    Args:
        endpoint: where to bind, such as ``tcp://0.0.0.0:5555``.
        store: where totals and cursors are kept. The engine closes it.
        max_symbols: how many symbols get series of their own.
        memory_limit: bytes by which senders may make the process grow.
        keys: those that may send; None for everyone, without encryption.

    Raises:
        BindError: the endpoint cannot be bound.
        StoreError: the state cannot be read.
    """

    def __init__(
        self,
        endpoint: str,
        store: Store,
        *,
        max_symbols: int = MAX_SYMBOLS,
        memory_limit: int = MEMORY_LIMIT,
        keys: Keys | None = None,
    ) -> None:
        self._store = store
        self._ledger = store.load(max_symbols)
        self._commits = Commits(self._ledger, store)
        self._messages: Iterator[Message] = iter(())
        self._received_at = 0.0
        self._throttle = Throttle()
        self._questions = Questions()
        try:
            self._inlet = Inlet(endpoint, self._questions.wake, memory_limit, keys)
        except BindError:
            self._questions.close()
            raise
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def endpoint(self) -> str:
        """Where it is bound."""
        return self._inlet.endpoint

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take what has arrived, commit, and release socket and store. It gives up when the disk hangs."""
        self._stopping.set()
        self._questions.wake_up()
        self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            log.error("the engine does not stop: what is not committed is dropped, and comes again where it is tracked")
        else:
            self._questions.close()

    async def ask[Answer](self, question: Callable[[], Answer]) -> Answer:
        """Run a question in the engine's thread.

        Raises:
            NoAnswer: the engine is not running, or busy for too long.
            StoreError: the question raised it.
        """
        if not self._thread.is_alive():
            raise NoAnswer("the engine is not running")
        return await self._questions.ask(question)

    def problem(self) -> str | None:
        """Why nothing is received, None while it is."""
        self._commits.check_file()
        return self._commits.problem

    def cursor(self, session: str) -> Cursor:
        """The committed cursor of a session.

        Raises:
            StoreError: it cannot be read.
        """
        return self._store.cursor(session)

    def snapshot(self) -> Snapshot:
        """Take what has arrived, up to a batch, and commit. While that fails the totals are those committed last."""
        self._take()
        self._commits.commit()
        ledger = self._ledger
        return Snapshot(
            totals=self._commits.totals,
            received=ledger.received,
            rejected=dict(ledger.rejected),
            duplicates=ledger.duplicates,
            out_of_sequence=ledger.out_of_sequence,
            sessions=len(ledger.next_seq),
            delivery=ledger.delivery.copy(),
            commit_seconds=self._commits.seconds.copy(),
            commit_failures=self._commits.failures,
            refused=self._inlet.refused,
        )

    def last_trades(self, limit: int) -> list[CountedTrade]:
        """The trades counted last, the newest first.

        Raises:
            StoreError: they cannot be committed.
        """
        self._take()
        self._commits.commit()
        if self._commits.problem:
            raise StoreError(self._commits.problem, "")
        return self._ledger.recent.last(limit)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._questions.answer()
                self._commits.commit_in_time()
                if self._commits.problem:
                    self._questions.wait(_POLL_SECONDS)
                elif not self._take():
                    self._inlet.wait(_POLL_SECONDS)
                self._inlet.relieve()
            self._drain()
        finally:
            self._inlet.close()
            self._store.close()

    def _drain(self) -> None:
        """Take and commit what has arrived."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        self._questions.answer()
        # ZeroMQ hands over what has arrived a little at a time: only a pause tells that there is no more.
        while time.monotonic() < deadline and (self._take() or self._inlet.wait(_POLL_SECONDS)):
            self._questions.answer()
            self._commits.commit_in_time()
        self._commits.commit()
        if self._commits.problem:
            log.error(
                "%s; what was received since is dropped, and comes again where it is tracked", self._commits.problem
            )

    def _take(self) -> bool:
        """Apply some of what has arrived. False if there is nothing, or nothing is taken as commits fail."""
        if self._commits.problem:
            return False
        messages = list(islice(self._messages, _SLICE))
        if not messages:
            if not (frames := self._inlet.receive()):
                return False
            self._received_at = time.time()
            self._messages = iter(decode(*frames))
            messages = list(islice(self._messages, _SLICE))
        for notable in self._ledger.apply(messages, self._received_at):
            self._throttle.warn_of(notable)
        self._commits.due |= bool(messages)
        return True
