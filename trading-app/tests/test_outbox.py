"""The outbox: what is kept, what is sent next, what is sent again, what is lost."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trading_app.outbox import FileOutbox, MemoryOutbox, OutboxError, OutboxInUse, Session, open_outbox


def sent_from(outbox: MemoryOutbox) -> list[int | str]:
    """Send all there is to send: the numbers of the trades, and the gap fills as ``<new_seq``."""
    sent: list[int | str] = []
    while turn := outbox.due(1):
        session, [(upto, message), *_] = turn
        parsed = json.loads(message)
        sent.append(parsed["seq"] if parsed["type"] == "trade" else f"<{parsed['new_seq']}")
        session.sent(upto)
    return sent


def put(outbox: MemoryOutbox, count: int) -> Session:
    for number in range(count):
        outbox.put("buy", 1.0, 100.0 + number)
    return outbox.sessions[-1]


def test_trades_are_numbered_from_1_in_a_session_of_the_outboxs_own() -> None:
    outbox, other = MemoryOutbox(), MemoryOutbox()
    assert [outbox.put("buy", 1.0, 100.0).seq for _ in range(3)] == [1, 2, 3]
    assert outbox.put("sell", 1.0, 100.0).session != other.put("buy", 1.0, 100.0).session


def test_trades_are_sent_once_and_in_order() -> None:
    outbox = MemoryOutbox()
    put(outbox, 3)
    assert sent_from(outbox) == [1, 2, 3]
    assert sent_from(outbox) == []
    assert len(outbox) == 3


def test_what_is_committed_is_forgotten() -> None:
    outbox = MemoryOutbox()
    session = put(outbox, 3)
    sent_from(outbox)
    assert outbox.forget(session, 3) == 2
    assert outbox.forget(session, 3) == 0
    assert len(outbox) == 1
    assert outbox.forget(session, 100) == 1
    assert len(outbox) == 0


def test_a_rewind_sends_again_what_is_not_committed() -> None:
    outbox = MemoryOutbox()
    session = put(outbox, 4)
    sent_from(outbox)
    outbox.forget(session, 3)
    session.rewind(3)
    assert sent_from(outbox) == [3, 4]


def test_a_full_outbox_drops_its_oldest_and_says_so() -> None:
    outbox = MemoryOutbox(capacity=2)
    put(outbox, 5)
    assert (len(outbox), outbox.lost) == (2, 3)
    assert sent_from(outbox) == ["<4", 4, 5]


def test_what_was_sent_before_it_was_dropped_makes_a_gap_only_if_it_did_not_arrive() -> None:
    outbox = MemoryOutbox(capacity=2)
    session = put(outbox, 2)
    sent_from(outbox)
    put(outbox, 1)
    assert outbox.lost == 1
    assert sent_from(outbox) == [3]
    session.rewind(next_seq=2)
    assert sent_from(outbox) == [2, 3]
    session.rewind(next_seq=1)
    assert sent_from(outbox) == ["<2", 2, 3]


def test_what_is_delivered_of_an_earlier_process_makes_room(tmp_path: Path) -> None:
    earlier = FileOutbox(tmp_path / "bot", capacity=3)
    put(earlier, 3)
    earlier.close()
    outbox = FileOutbox(tmp_path / "bot", capacity=3)
    put(outbox, 1)
    assert (len(outbox), outbox.lost) == (3, 1)
    outbox.forget(outbox.sessions[0], 4)
    put(outbox, 2)
    assert (len(outbox), outbox.lost) == (3, 1)
    outbox.close()


def test_a_trade_waits_until_it_is_delivered_or_lost() -> None:
    outbox = MemoryOutbox(capacity=2)
    first, second, third = (outbox.put("buy", 1.0, 100.0) for _ in range(3))
    assert [outbox.status(trade) for trade in (first, second, third)] == ["lost", "waiting", "waiting"]
    outbox.forget(outbox.sessions[-1], 3)
    assert [outbox.status(trade) for trade in (first, second, third)] == ["lost", "delivered", "waiting"]


def test_after_a_day_without_trades_a_new_session_begins() -> None:
    outbox = MemoryOutbox()
    first = outbox.put("buy", 1.0, 0.0)
    waiting = outbox.put("buy", 1.0, 200_000.0)
    assert waiting.session == first.session
    outbox.forget(outbox.sessions[-1], 3)
    later = outbox.put("buy", 1.0, 400_000.0)
    assert later.session != first.session
    assert later.seq == 1


def test_a_file_keeps_trades_for_the_next_process(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "deep" / "bot")
    session = put(outbox, 4)
    outbox.forget(session, 3)
    outbox.close()

    again = FileOutbox(tmp_path / "deep" / "bot")
    assert len(again) == 2
    assert sent_from(again) == [3, 4]
    assert again.sessions[0].name == session.name
    assert again.put("buy", 1.0, 100.0).session != session.name
    assert again.forget(again.sessions[0], 5) == 2
    assert len(again.sessions) == 1
    again.close()


def test_a_killed_process_leaves_its_trades(tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from trading_app.outbox import FileOutbox
outbox = FileOutbox(pathlib.Path({str(tmp_path / "bot")!r}))
for number in range(100):
    outbox.put("buy", 1.0, 100.0)
print("put", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "put\n"
        with pytest.raises(OutboxInUse, match="another process uses this outbox"):
            FileOutbox(tmp_path / "bot")
        os.kill(process.pid, signal.SIGKILL)
    outbox = FileOutbox(tmp_path / "bot")
    assert sent_from(outbox) == list(range(1, 101))
    outbox.close()


def test_a_dropped_trade_does_not_come_back_with_the_file(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "bot", capacity=2)
    put(outbox, 5)
    outbox.close()
    again = FileOutbox(tmp_path / "bot")
    assert sent_from(again) == [4, 5]
    again.close()


def test_programs_of_one_name_have_outboxes_of_their_own_and_inherit_what_is_left(tmp_path: Path) -> None:
    folder = str(tmp_path)
    first, second = open_outbox(folder, "feed"), open_outbox(folder, "feed")
    other = open_outbox(folder, "ui")
    for outbox in first, second, other:
        put(outbox, 2)
        outbox.close()
    heir = open_outbox(folder, "feed")
    assert len(heir) == 4
    heir.close()
    heir = open_outbox(folder, "feed")
    assert len(heir) == 4
    heir.close()


def test_a_left_over_that_cannot_be_read_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "feed-2").write_text("my shopping list\n" * 100)
    (tmp_path / "feed-3").mkdir()
    (tmp_path / "feed-4.lock").mkdir()
    (tmp_path / "feed-4").touch()
    outbox = open_outbox(str(tmp_path), "feed")
    assert put(outbox, 1).next_seq == 2
    outbox.close()
    assert any("feed-2" in message and "left as it is" in message for message in caplog.messages)


def test_without_a_folder_the_outbox_is_in_memory() -> None:
    assert type(open_outbox("", "ui")) is MemoryOutbox


def test_a_file_that_is_no_outbox_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bot"
    path.write_text("my shopping list\n" * 100)
    with pytest.raises(OutboxError, match=r"bot: file is not a database\. Move the file away"):
        FileOutbox(path)
    assert path.read_text().startswith("my shopping list")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match=r"WEBAPP_OUTBOX=.*file/outbox.*Use a path that this user can write"):
        open_outbox(str(tmp_path / "file" / "outbox"), "ui")


def test_a_trade_that_the_file_cannot_take_is_refused_and_not_sent(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "bot")
    put(outbox, 1)
    outbox._db.execute("PRAGMA query_only = ON")  # as a disk that takes no writes
    with pytest.raises(OutboxError, match="The trade was not sent"):
        outbox.put("buy", 1.0, 100.0)
    assert sent_from(outbox) == [1]
    outbox.close()
