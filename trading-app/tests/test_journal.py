"""The journal and its window: which trades are stored, sent, sent again, and lost."""

import threading

import pytest

from trading_app.journal import Journal
from trading_app.losses import Losses
from trading_app.messages import GapFill, Trade, decode
from trading_app.outbox_error import OutboxError
from trading_app.segment import Memory, Segment
from trading_app.window import WINDOW_BYTES, Window

DAY = 86_400.0


class WindowedJournal:
    """A journal in memory with its window, without a sending thread."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.journal = Journal(Memory(), capacity)
        self.window = Window(self.journal)

    def publish(self, count: int, ts: float = 100.0) -> list[Trade]:
        return [self.journal.append("buy", 1.0, ts) for _ in range(count)]

    def send(self, frame_bytes: int = 65_536) -> list[int | str]:
        """Send all trades. Return the number of each trade, and each gap fill as ``<new_seq``."""
        sent: list[int | str] = []
        while frame := self.window.next_frame(frame_bytes):
            messages = map(decode, frame.data.splitlines())
            sent += [f"<{message.new_seq}" if isinstance(message, GapFill) else message.seq for message in messages]
        return sent

    def commit(self, next_seq: int) -> None:
        self.journal.commit(self.session, next_seq)
        self.window.acknowledge()

    @property
    def session(self) -> str:
        return self.journal.newest[0]


def test_each_journal_numbers_trades_from_1_in_its_own_session() -> None:
    publisher, other = WindowedJournal(), WindowedJournal()
    assert [trade.seq for trade in publisher.publish(3)] == [1, 2, 3]
    assert publisher.session != other.session
    assert len(publisher.session) >= 16


def test_trades_are_sent_once_and_in_order() -> None:
    publisher = WindowedJournal()
    publisher.publish(3)
    assert publisher.send() == [1, 2, 3]
    assert publisher.send() == []
    publisher.publish(1)
    assert publisher.send() == [4]
    assert publisher.journal.pending == 4


def test_a_frame_holds_as_many_whole_trades_as_fit() -> None:
    publisher = WindowedJournal()
    publisher.publish(1000)
    frames = []
    while frame := publisher.window.next_frame():
        frames.append(frame.data)
    assert 1 < len(frames) < 5
    assert all(len(frame) <= 65_536 and frame.endswith(b"}\n") for frame in frames)


def test_a_trade_larger_than_a_frame_is_sent_alone() -> None:
    publisher = WindowedJournal()
    publisher.publish(2)
    assert publisher.send(frame_bytes=1) == [1, 2]


def test_a_rewind_sends_uncommitted_trades_again() -> None:
    publisher = WindowedJournal()
    publisher.publish(4)
    publisher.send(frame_bytes=1)
    publisher.commit(3)
    assert publisher.journal.pending == 2
    publisher.window.rewind(publisher.session, next_seq=3)
    assert publisher.send() == [3, 4]
    publisher.commit(5)
    assert publisher.journal.is_idle
    assert publisher.window.is_empty


def test_commit_reports_whether_the_cursor_moved() -> None:
    publisher = WindowedJournal()
    publisher.publish(3)
    assert publisher.journal.commit(publisher.session, 3)
    assert not publisher.journal.commit(publisher.session, 3)
    assert not publisher.journal.commit(publisher.session, 2)
    assert not publisher.journal.commit("unknown", 10)
    assert publisher.journal.pending == 1


def test_a_gap_fill_is_sent_to_a_sidecar_that_expects_an_earlier_trade() -> None:
    publisher = WindowedJournal()
    publisher.publish(5)
    publisher.send(frame_bytes=1)
    publisher.commit(4)
    publisher.window.rewind(publisher.session, next_seq=1)
    assert publisher.send() == ["<4", 4, 5]


def test_a_full_window_waits_for_commits() -> None:
    publisher = WindowedJournal()
    publisher.publish(200_000)
    sent = publisher.send()
    assert publisher.window.is_full
    assert publisher.window.has_unsent
    assert WINDOW_BYTES / 200 < len(sent) < 200_000
    publisher.commit(len(sent) + 1)
    assert publisher.send()[0] == len(sent) + 1


def test_a_full_journal_drops_its_oldest_segment_and_counts_the_trades() -> None:
    publisher = WindowedJournal(capacity=16)
    trades = publisher.publish(17)
    assert (publisher.journal.pending, publisher.journal.losses.count) == (15, 2)
    assert [publisher.journal.status(trade) for trade in trades[1:3]] == ["lost", "waiting"]
    assert publisher.send() == ["<3", *range(3, 18)]


@pytest.mark.parametrize("capacity", [1, 2, 7, 8, 9, 100])
def test_a_journal_holds_up_to_its_capacity_and_keeps_the_newest(capacity: int) -> None:
    publisher = WindowedJournal(capacity)
    for number in range(1, 3 * capacity + 1):
        (trade,) = publisher.publish(1)
        journal = publisher.journal
        assert journal.pending + journal.losses.count == number
        assert 7 * capacity // 8 <= journal.pending <= capacity or number <= capacity
        assert journal.status(trade) == "waiting"


def test_one_gap_fill_covers_all_dropped_segments() -> None:
    publisher = WindowedJournal(capacity=8)
    publisher.publish(30)
    publisher.journal.tidy()
    assert publisher.send() == ["<23", *range(23, 31)]
    publisher.publish(5)
    publisher.journal.tidy()
    assert publisher.send() == [*range(31, 36)]
    publisher.window.rewind(publisher.session, next_seq=23)
    assert publisher.send() == ["<28", *range(28, 36)]


def test_dropped_and_committed_trades_free_memory() -> None:
    publisher = WindowedJournal(capacity=80)
    publisher.publish(80)
    full = publisher.journal.counts.bytes
    for _ in range(10):
        publisher.publish(80)
        publisher.journal.tidy()
    assert publisher.journal.counts.bytes <= full * 1.2
    publisher.commit(10_000)
    publisher.journal.tidy()
    assert publisher.journal.counts.bytes <= full / 5


def test_trades_dropped_after_sending_make_a_gap_only_if_they_did_not_arrive() -> None:
    publisher = WindowedJournal(capacity=8)
    publisher.publish(8)
    publisher.send()
    publisher.publish(1)
    assert publisher.journal.losses.count == 1
    assert publisher.send() == [9]
    publisher.window.rewind(publisher.session, next_seq=2)
    assert publisher.send() == ["<2", *range(2, 10)]


def test_the_status_of_a_trade_is_waiting_delivered_or_lost() -> None:
    publisher = WindowedJournal(capacity=2)
    first, second, third = publisher.publish(3)
    status = publisher.journal.status
    assert [status(trade) for trade in (first, second, third)] == ["lost", "waiting", "waiting"]
    publisher.commit(3)
    assert [status(trade) for trade in (first, second, third)] == ["lost", "delivered", "waiting"]


def test_a_new_session_begins_after_a_day_without_commits() -> None:
    publisher = WindowedJournal()
    (first,) = publisher.publish(1, ts=100.0)
    (later,) = publisher.publish(1, ts=4e9)
    assert later.session != first.session
    assert later.seq == 1
    assert publisher.send() == [1, 1]
    publisher.journal.commit(first.session, 2)
    publisher.journal.commit(later.session, 2)
    assert publisher.journal.is_idle


def test_a_new_session_begins_before_the_last_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading_app.journal.MAX_SEQ", 20)
    trades = WindowedJournal(capacity=100).publish(100)
    assert max(trade.seq for trade in trades) <= 20
    assert len({(trade.session, trade.seq) for trade in trades}) == 100


def test_renumbering_moves_pending_trades_to_a_new_session() -> None:
    publisher = WindowedJournal()
    trades = publisher.publish(5)
    publisher.send(frame_bytes=1)
    publisher.commit(3)
    old = publisher.session
    publisher.journal.renumber()
    publisher.window.rewind(publisher.session, next_seq=1)
    assert publisher.session != old
    (later,) = publisher.publish(1)
    assert publisher.send() == [1, 2, 3, 4]
    status = publisher.journal.status
    assert [status(trade) for trade in trades] == ["delivered", "delivered", "waiting", "waiting", "waiting"]
    publisher.commit(3)
    assert [status(trade) for trade in (*trades, later)] == [*["delivered"] * 4, "waiting", "waiting"]
    publisher.commit(5)
    assert publisher.journal.is_idle


def test_a_closed_journal_refuses_trades() -> None:
    publisher = WindowedJournal()
    publisher.journal.close()
    with pytest.raises(RuntimeError, match="the publisher is closed"):
        publisher.publish(1)


def test_renumbering_works_after_trades_were_dropped() -> None:
    publisher = WindowedJournal(capacity=16)
    publisher.publish(40)
    publisher.journal.tidy()
    held = publisher.journal.pending
    publisher.journal.renumber()
    publisher.window.rewind(publisher.session, next_seq=1)
    assert publisher.send() == list(range(1, held + 1))


def test_renumbering_leaves_other_sessions_alone() -> None:
    publisher = WindowedJournal()
    (first,) = publisher.publish(1, ts=100.0)
    (second,) = publisher.publish(1, ts=4e9)
    publisher.journal.renumber()
    assert publisher.journal.ends == {first.session: 2, publisher.session: 2}
    assert publisher.session not in {first.session, second.session}
    assert publisher.journal.pending == 2


class LimitedMemory(Memory):
    """Memory with room for nine segments."""

    created = 0

    def create(self, size: int) -> Segment:
        if self.created == 9:
            raise OutboxError("no room")
        self.created += 1
        return super().create(size)


def test_renumbering_drops_the_trades_for_which_there_is_no_room(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(LimitedMemory(), capacity=16)
    trades = [journal.append("buy", 1.0, 100.0) for _ in range(16)]
    journal.renumber()
    kept, dropped = journal.pending, journal.losses.count
    assert kept + dropped == 16
    assert dropped > 0
    assert [journal.status(trade) for trade in trades] == [*["waiting"] * kept, *["lost"] * dropped]
    assert caplog.messages == [f"no room; {dropped} trades are dropped"]


def test_later_trades_do_not_change_the_status_of_those_that_renumbering_dropped() -> None:
    memory = LimitedMemory()
    journal = Journal(memory, capacity=16)
    trades = [journal.append("buy", 1.0, 100.0) for _ in range(16)]
    journal.renumber()
    kept = journal.pending
    memory.created = 0
    later = [journal.append("buy", 1.0, 100.0) for _ in range(16 - kept)]
    status = [*["waiting"] * kept, *["lost"] * (16 - kept)]
    assert [journal.status(trade) for trade in trades] == status
    assert [journal.status(trade) for trade in later] == ["waiting"] * len(later)
    session, next_seq = journal.newest
    journal.commit(session, next_seq)
    assert [journal.status(trade) for trade in trades] == [*["delivered"] * kept, *["lost"] * (16 - kept)]
    assert not journal.is_waiting(trades[0].session, 1, 17)


def test_renumbering_wakes_those_who_wait_for_a_trade_that_it_drops() -> None:
    journal = Journal(LimitedMemory(), capacity=16)
    trades = [journal.append("buy", 1.0, 100.0) for _ in range(16)]
    renumbering = threading.Thread(target=journal.renumber)
    with journal.lock:
        renumbering.start()
        # The thread gets the lock only once this one waits.
        assert journal.changed.wait(10)
        assert journal.status(trades[-1]) == "lost"
    renumbering.join()


@pytest.mark.parametrize("times", [1, 2])
def test_renumbered_trades_that_are_dropped_later_are_lost(times: int) -> None:
    publisher = WindowedJournal(capacity=16)
    dropped = publisher.publish(20)[:4]
    trades = publisher.publish(12)
    for _ in range(times):
        publisher.journal.renumber()
    assert {publisher.journal.status(trade) for trade in trades} == {"waiting"}
    session = trades[0].session
    assert publisher.journal.is_waiting(session, 1, 33)
    publisher.publish(28)
    assert publisher.journal.losses.count == 60 - publisher.journal.pending
    assert {publisher.journal.status(trade) for trade in (*dropped, *trades)} == {"lost"}
    assert not publisher.journal.is_waiting(session, 1, 33)


@pytest.mark.parametrize("published", [80, 83])
def test_a_renumbered_journal_drops_at_most_an_eighth_at_once(published: int) -> None:
    publisher = WindowedJournal(capacity=80)
    publisher.publish(published)
    publisher.commit(40)
    publisher.journal.renumber()
    held = publisher.journal.pending
    publisher.publish(80 - held)
    before = publisher.journal.losses.count
    publisher.publish(1)
    assert 0 < publisher.journal.losses.count - before <= 10


def test_after_a_commit_within_a_frame_a_sidecar_with_a_new_state_file_gets_a_gap_fill() -> None:
    publisher = WindowedJournal()
    publisher.publish(5)
    publisher.send()
    publisher.commit(3)
    publisher.window.rewind(publisher.session, next_seq=1)
    assert publisher.send() == ["<3", 1, 2, 3, 4, 5]


def test_the_memory_of_dropped_trades_is_bounded_and_their_number_is_exact() -> None:
    losses = Losses()
    for number in range(10_001):
        losses.add("a", range(3 * number + 1, 3 * number + 3))
    assert losses.count == 20_002
    first, second = (Trade("buy", 1.0, 100.0, "a", seq) for seq in (1, 4))
    assert (first in losses, second in losses) == (False, True)
