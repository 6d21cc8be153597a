"""The outbox: first in, first out, and what does not fit is lost from the old end, and counted."""

from trading_app.outbox import MemoryOutbox


def test_first_in_first_out() -> None:
    outbox = MemoryOutbox()
    outbox.append(b"1")
    outbox.append(b"2")
    assert outbox.first() == b"1"
    outbox.drop_first()
    assert outbox.first() == b"2"
    assert len(outbox) == 1
    assert outbox.lost == 0


def test_a_full_outbox_drops_its_oldest_and_counts_it() -> None:
    outbox = MemoryOutbox(capacity=2)
    for message in b"1", b"2", b"3", b"4":
        outbox.append(message)
    assert outbox.first() == b"3"
    assert len(outbox) == 2
    assert outbox.lost == 2
