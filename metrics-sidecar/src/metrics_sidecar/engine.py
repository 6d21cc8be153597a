"""The engine thread. It alone owns the socket, the ledger and the store; other threads ask it questions."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
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

POLL_SECONDS = 0.02
# Messages applied before questions get a turn. Each takes a few microseconds at most.
_SLICE = 1_000
# `stop` must end even if a publisher keeps sending or the disk hangs.
_DRAIN_SECONDS = 1.0
STOP_SECONDS = 5.0

log = logging.getLogger(__name__)


class Engine:
    """Counts trades between `start` and `stop`. The constructor binds the endpoint.

    Call `snapshot`, `last_trades`, `cursor` and `problem` through `ask` only: they must run in the engine thread.

    Args:
        endpoint: the ZeroMQ endpoint to bind, such as ``tcp://0.0.0.0:5555``.
        store: holds totals and cursors. `stop` closes it.
        max_symbols: number of symbols that get series of their own.
        memory_limit: bytes by which senders may make the process grow.
        keys: the keys that may send. None: no encryption, everyone may send.

    Attributes:
        on_failure: called if the engine thread ends by an unexpected error, after socket and store are released.

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
        self.on_failure: Callable[[], None] = lambda: None
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
        """The bound endpoint, with its port."""
        return self._inlet.endpoint

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Count what has arrived, commit, and release socket and store. Gives up after `STOP_SECONDS`."""
        self._stopping.set()
        self._questions.wake_up()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            log.error("the engine did not stop in time: dropping uncommitted trades; publishers resend tracked ones")
        else:
            self._questions.close()

    async def ask[Answer](self, question: Callable[[], Answer]) -> Answer:
        """Run a question in the engine thread.

        Raises:
            NoAnswer: the engine is not running, or did not answer in time.
            StoreError: the question raised it.
        """
        if not self._thread.is_alive():
            raise NoAnswer("the engine is not running")
        return await self._questions.ask(question)

    def check_health(self) -> str | None:
        """Check the state file, and say why nothing is received. None while trades are received."""
        self._commits.check_file()
        return self._commits.problem

    def cursor(self, session: str) -> Cursor:
        """The committed cursor of a session.

        Raises:
            StoreError: the state file cannot be read.
        """
        return self._store.cursor(session)

    def snapshot(self) -> Snapshot:
        """Count a batch of what has arrived, commit, and copy the numbers. The totals are always committed ones."""
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
        """The most recently counted trades, newest first.

        Raises:
            StoreError: the trades cannot be committed.
        """
        self._take()
        self._commits.commit()
        if self._commits.problem:
            raise StoreError(self._commits.problem, "")
        return self._ledger.recent.last(limit)

    def _run(self) -> None:
        try:
            # Whatever fails, the lock of the state file is released.
            with closing(self._store), closing(self._inlet):
                while not self._stopping.is_set():
                    self._work()
                self._drain()
        except BaseException:
            log.critical("the engine failed; publishers resend tracked trades", exc_info=True)
            self.on_failure()

    def _work(self) -> None:
        """Answer questions, commit, and count what has arrived; sleep if there is nothing to do."""
        self._step()
        self._inlet.relieve()

    def _drain(self) -> None:
        """Count and commit what has arrived."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        # ZeroMQ delivers what has arrived in portions: only a pause shows that nothing is left.
        while time.monotonic() < deadline and self._step():
            continue
        self._commits.commit()
        if self._commits.problem:
            log.error(
                "%s; dropping trades received since the last commit; publishers resend tracked ones",
                self._commits.problem,
            )

    def _step(self) -> bool:
        """Answer questions, commit, and count a slice. False if nothing has arrived after a pause."""
        self._questions.answer()
        self._commits.commit_if_due()
        if self._commits.problem:
            self._questions.wait(POLL_SECONDS)
            return True
        return self._take() or self._inlet.wait(POLL_SECONDS)

    def _take(self) -> bool:
        """Apply a slice of what has arrived. False if nothing has arrived or commits are failing."""
        if self._commits.problem:
            return False
        messages = list(islice(self._messages, _SLICE))
        if not messages:
            if not (frames := self._inlet.receive()):
                return False
            self._received_at = time.time()
            self._messages = iter(decode(*frames))
            messages = list(islice(self._messages, _SLICE))
        for message in self._ledger.apply(messages, self._received_at):
            self._throttle.warn_of(message)
        if messages:
            self._commits.note_change()
        return True
