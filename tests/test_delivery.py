"""Counted once or lost, and nothing else: outbox and ledger over a channel that loses, repeats and reorders."""

import copy
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from metrics_sidecar.ledger import Ledger
from metrics_sidecar.messages import GapFill, Message, Rejected, Trade, decode
from trading_app.outbox import FileOutbox, MemoryOutbox, Session

CAPACITY = 5
indices = st.integers(0, 100)


class RecordingLedger(Ledger):
    """A ledger that remembers which trades it has counted, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[tuple[str, int]] = Counter()

    def apply(self, messages: Sequence[Message], received_at: float) -> list[GapFill | Rejected]:
        notable: list[GapFill | Rejected] = []
        for message in messages:
            before = self.totals().trades
            notable += super().apply([message], received_at)
            if isinstance(message, Trade) and self.totals().trades != before:
                self.counted[message.session, message.seq] += 1
        return notable


class Delivery(RuleBasedStateMachine):
    """Everything that can happen between a publisher and a side-car, one step at a time.

    The side-car may die, and comes back as it was last committed; the publisher may die, and finds its file; a
    committed cursor may be told late. Either the state file or the publisher may be lost in one run, not both: what a
    dead publisher had delivered to a deleted state file nobody can know.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.outbox: MemoryOutbox = FileOutbox(self.folder / "outbox", CAPACITY)
        self.ledger = RecordingLedger()
        self.committed = RecordingLedger()
        self.channel: list[bytes] = []
        self.answers: list[tuple[Session, int]] = []
        self.published: set[tuple[str, int]] = set()
        self.forgotten = self.restarted = False

    def teardown(self) -> None:
        self.publish()  # a side-car that has forgotten a session is told so with the next trade of it
        for _ in range(4):
            self.channel.clear()
            for session in list(self.outbox.sessions):
                session.rewind(self.committed.next_seq.get(session.name, 1))
            while self.outbox.due(1):
                self.send()
                self.deliver(0)
            self.commit()
            for session in list(self.outbox.sessions):
                self.outbox.forget(session, self.committed.next_seq.get(session.name, 1))
        assert len(self.outbox) == 0
        assert set(self.committed.counted) <= self.published
        assert self.committed.counted.total() + self.committed.totals().lost == len(self.published)
        self.outbox.close()
        shutil.rmtree(self.folder)

    @invariant()
    def nothing_counts_twice(self) -> None:
        assert max(self.ledger.counted.values(), default=0) <= 1

    @invariant()
    def the_outbox_keeps_its_bounds(self) -> None:
        assert len(self.outbox) <= max(CAPACITY, len(self.outbox.sessions))

    @rule()
    def publish(self) -> None:
        had_room, lost = len(self.outbox) < CAPACITY, self.outbox.lost
        trade = self.outbox.put("buy", 1.0, 100.0)
        self.published.add((trade.session, trade.seq))
        assert not had_room or self.outbox.lost == lost

    @rule()
    def send(self) -> None:
        if turn := self.outbox.due(1):
            session, [(upto, message), *_] = turn
            self.channel.append(message)
            session.sent(upto)

    @rule(index=indices)
    def deliver(self, index: int) -> None:
        """Any message that is under way arrives, the oldest or not."""
        if self.channel:
            self.ledger.apply(list(decode(self.channel.pop(index % len(self.channel)))), 100.0)

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
    def kill_the_side_car(self) -> None:
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
        self.outbox.close()
        self.outbox = FileOutbox(self.folder / "outbox", CAPACITY)
        self.answers.clear()
        self.restarted = True

    @rule(index=indices)
    def ask(self, index: int) -> None:
        session = self.outbox.sessions[index % len(self.outbox.sessions)]
        self.answers.append((session, self.committed.next_seq.get(session.name, 1)))

    @rule(index=indices, rewinds=st.booleans())
    def answer(self, index: int, rewinds: Any) -> None:
        """Any answer that is under way arrives; the publisher may take it for a reason to send again."""
        if self.answers:
            session, next_seq = self.answers.pop(index % len(self.answers))
            self.outbox.forget(session, next_seq)
            if rewinds:
                session.rewind(next_seq)


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=200, stateful_step_count=60)
