"""Each trade is counted once or reported lost: journal and ledger over a channel that loses, repeats and reorders."""

import copy
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from metrics_sidecar.ledger import Ledger
from metrics_sidecar.messages import GapFill, Message, Rejected, Trade, decode
from trading_app.journal import Journal
from trading_app.outbox import Outbox
from trading_app.window import Window

# Two trades a segment.
CAPACITY = 16
indices = st.integers(0, 100)
# A frame of one trade, or of all trades of a segment.
sizes = st.sampled_from([1, 65_536])


class RecordingLedger(Ledger):
    """A ledger that records how often it has counted each trade."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[tuple[str, int]] = Counter()

    def apply(self, messages: Iterable[Message], received_at: float) -> list[GapFill | Rejected]:
        notable = []
        for message in messages:
            before = self.totals().series
            notable += super().apply([message], received_at)
            if isinstance(message, Trade) and self.totals().series != before:
                self.counted[message.session, message.seq] += 1
        return notable


class Delivery(RuleBasedStateMachine):
    """Everything that can happen between a publisher and a sidecar, one step at a time.

    The sidecar may be killed, and restarts from its last commit. The publisher may be killed, and restarts from its
    outbox. The answer with a committed cursor may arrive late. One run loses either the state file or the publisher,
    not both: nobody can know what a killed publisher had delivered to a deleted state file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.start_the_publisher()
        self.ledger = RecordingLedger()
        self.committed = RecordingLedger()
        self.channel: list[bytes] = []
        self.answers: list[tuple[str, int]] = []
        self.published: set[tuple[str, int]] = set()
        self.forgotten = self.restarted = False

    def start_the_publisher(self) -> None:
        self.journal = Journal(Outbox(self.folder / "outbox"), CAPACITY)
        self.window = Window(self.journal)

    def teardown(self) -> None:
        self.publish(1)  # a sidecar without a session learns of it from the session's next trade
        self.channel.clear()
        self.commit()
        while not self.journal.is_idle:
            session = self.journal.head.session
            next_seq = self.committed.next_seq.get(session, 1)
            moved = self.journal.commit(session, next_seq)
            self.window.acknowledge()
            if not moved:
                self.window.rewind(session, next_seq)
                while frame := self.window.next_frame():
                    self.ledger.apply(decode(frame.data), 100.0)
                self.commit()
                assert self.committed.next_seq[session] > next_seq
        self.window.acknowledge()
        assert self.window.is_empty
        assert set(self.committed.counted) <= self.published
        assert self.committed.counted.total() + self.committed.totals().lost == len(self.published)
        self.journal.close()
        assert not list((self.folder / "outbox").iterdir())
        shutil.rmtree(self.folder)

    @invariant()
    def no_trade_is_counted_twice(self) -> None:
        assert max(self.ledger.counted.values(), default=0) <= 1

    @invariant()
    def the_journal_stays_within_its_capacity(self) -> None:
        assert self.journal.pending <= CAPACITY

    @rule(count=st.integers(1, 9))
    def publish(self, count: int) -> None:
        for _ in range(count):
            had_room, lost = self.journal.pending < CAPACITY, self.journal.losses.count
            trade = self.journal.append("buy", 1.0, 100.0)
            self.published.add((trade.session, trade.seq))
            assert not had_room or self.journal.losses.count == lost

    @rule()
    def tidy(self) -> None:
        self.journal.tidy()

    @rule(size=sizes)
    def send(self, size: int) -> None:
        if frame := self.window.next_frame(size):
            self.channel.append(frame.data)

    @rule(index=indices)
    def deliver(self, index: int) -> None:
        """Any frame in the channel arrives, not only the oldest."""
        if self.channel:
            self.ledger.apply(decode(self.channel.pop(index % len(self.channel))), 100.0)

    @rule(index=indices)
    def repeat(self, index: int) -> None:
        if self.channel:
            self.channel.append(self.channel[index % len(self.channel)])

    @rule(index=indices)
    def lose(self, index: int) -> None:
        if self.channel:
            self.channel.pop(index % len(self.channel))

    @rule()
    def commit(self) -> None:
        self.committed = copy.deepcopy(self.ledger)

    @rule()
    def kill_the_sidecar(self) -> None:
        self.ledger = copy.deepcopy(self.committed)

    @precondition(lambda self: not self.restarted)
    @rule()
    def delete_the_state_file(self) -> None:
        self.ledger, self.committed = RecordingLedger(), RecordingLedger()
        self.answers.clear()
        self.forgotten = True

    @precondition(lambda self: not self.forgotten)
    @rule()
    def kill_the_publisher(self) -> None:
        self.journal.disown("killed")
        self.start_the_publisher()
        self.answers.clear()
        self.restarted = True

    @rule()
    def ask(self) -> None:
        session = self.journal.head.session
        self.answers.append((session, self.committed.next_seq.get(session, 1)))

    @rule(index=indices, rewinds=st.booleans())
    def answer(self, index: int, rewinds: Any) -> None:
        """Any pending answer arrives; the publisher may send again because of it."""
        if self.answers:
            session, next_seq = self.answers.pop(index % len(self.answers))
            self.journal.commit(session, next_seq)
            self.window.acknowledge()
            if rewinds:
                self.window.rewind(session, next_seq)


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=200, stateful_step_count=60)
