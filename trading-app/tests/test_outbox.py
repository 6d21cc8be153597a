"""The outbox: trades that outlive the process, in a folder that one process holds at a time."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trading_app.journal import Journal
from trading_app.messages import GapFill, Trade, decode, encode
from trading_app.outbox import Outbox, OutboxError, OutboxInUse, open_outbox
from trading_app.segment import Memory, Segment
from trading_app.window import Window


def open_journal(path: Path, capacity: int = 1_000_000) -> Journal:
    return Journal(Outbox(path), capacity)


def publish(journal: Journal, count: int) -> str:
    for _ in range(count):
        journal.append("buy", 1.0, 100.0)
    return journal.newest[0]


def sent_from(journal: Journal) -> list[tuple[str, int | str]]:
    """Send all there is: session and number of each trade, and the gap fills as ``<new_seq``."""
    window, sent = Window(journal), list[tuple[str, int | str]]()
    while frame := window.next_frame():
        for message in map(decode, frame.data.splitlines()):
            sent.append((message.session, f"<{message.new_seq}" if isinstance(message, GapFill) else message.seq))
    return sent


def descriptors() -> int:
    """Open file descriptors; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def kill(journal: Journal) -> None:
    """Leave files and lock as a killed process does."""
    journal.disown("killed")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def test_trades_are_there_for_the_next_process_under_their_session(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "deep" / "bot")
    session = publish(journal, 4)
    journal.close()
    again = open_journal(tmp_path / "deep" / "bot")
    assert again.pending == 4
    assert again.newest[0] != session
    assert sent_from(again) == [(session, 1), (session, 2), (session, 3), (session, 4)]
    again.commit(session, 5)
    again.close()
    assert files(tmp_path / "deep" / "bot") == []


def test_what_is_committed_of_an_earlier_session_leaves_the_window(tmp_path: Path) -> None:
    earlier = open_journal(tmp_path / "bot")
    old = publish(earlier, 3)
    earlier.close()
    journal = open_journal(tmp_path / "bot")
    window = Window(journal)
    new = publish(journal, 3)
    while window.next_frame():
        continue
    for session in old, new:
        journal.commit(session, 4)
        window.acknowledge()
    assert window.is_empty
    journal.close()


def test_a_killed_process_leaves_its_trades(tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from trading_app.journal import Journal
from trading_app.outbox import Outbox
journal = Journal(Outbox(pathlib.Path({str(tmp_path / "bot")!r})), 400)
for number in range(100):
    journal.append("buy", 1.0, 100.0)
print(journal.newest[0], flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        session = process.stdout.readline().strip()
        with pytest.raises(OutboxInUse, match="another publisher uses this outbox"):
            Outbox(tmp_path / "bot")
        os.kill(process.pid, signal.SIGKILL)
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [(session, seq) for seq in range(1, 101)]
    journal.close()


def test_what_is_committed_is_deleted(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot", capacity=80)
    session = publish(journal, 75)
    before = files(tmp_path / "bot")
    journal.commit(session, 61)
    journal.tidy()
    # Ten trades a file: six are gone, the spare one is new.
    assert len(set(before) - set(files(tmp_path / "bot"))) == 6
    journal.commit(session, 76)
    journal.close()
    assert files(tmp_path / "bot") == []


def test_a_dropped_trade_does_not_come_back_with_the_file(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot", capacity=8)
    session = publish(journal, 12)
    journal.tidy()
    kill(journal)
    again = open_journal(tmp_path / "bot")
    assert sent_from(again) == [(session, "<5"), *((session, seq) for seq in range(5, 13))]
    again.close()


def test_the_gap_of_a_session_that_was_dropped_whole_survives_a_kill(tmp_path: Path) -> None:
    first = open_journal(tmp_path / "bot", capacity=8)
    old = publish(first, 8)
    kill(first)
    second = open_journal(tmp_path / "bot", capacity=8)
    publish(second, 8)
    second.tidy()
    kill(second)
    third = open_journal(tmp_path / "bot", capacity=8)
    assert sent_from(third)[0] == (old, "<9")
    third.close()


def test_a_line_that_a_crash_has_torn_is_cut_off(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot")
    session = publish(journal, 3)
    kill(journal)
    (file, *_) = files(tmp_path / "bot")
    content = file.read_bytes()
    torn = content.rstrip(b"\0")[:-10]
    file.write_bytes(torn.ljust(len(content), b"\0"))
    again = open_journal(tmp_path / "bot")
    assert sent_from(again) == [(session, 1), (session, 2)]
    again.close()


def test_lines_that_never_reached_the_disk_make_a_gap(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot")
    session = publish(journal, 6)
    kill(journal)
    (file, *_) = files(tmp_path / "bot")
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    start, end = len(lines[0]), len(b"".join(lines[:3])) + 5
    file.write_bytes(content[:start] + bytes(end - start) + content[end:])
    again = open_journal(tmp_path / "bot")
    assert sent_from(again) == [(session, 1), (session, "<5"), (session, 5), (session, 6)]
    again.commit(session, 7)
    again.close()
    assert files(tmp_path / "bot") == []


@pytest.mark.parametrize("content", [b"", bytes(4096), b"my shopping list\n" * 100])
def test_a_segment_without_trades_is_deleted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "000000000001.journal").write_bytes(content)
    journal = open_journal(tmp_path / "bot")
    assert journal.is_idle
    journal.close()
    assert files(tmp_path / "bot") == []


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "notes.txt").write_text("mine")
    open_journal(tmp_path / "bot").close()
    assert (tmp_path / "bot" / "notes.txt").read_text() == "mine"


def test_programs_of_one_name_have_outboxes_of_their_own_and_inherit_what_is_left(tmp_path: Path) -> None:
    journals = [Journal(open_outbox(str(tmp_path), name), 100) for name in ("feed", "feed", "ui")]
    sessions = [publish(journal, 2) for journal in journals]
    for journal in journals:
        journal.close()
    for _ in range(2):
        heir = Journal(open_outbox(str(tmp_path), "feed"), 100)
        assert sorted(sent_from(heir)) == sorted((session, seq) for session in sessions[:2] for seq in (1, 2))
        heir.close()
    assert not (tmp_path / "feed-2").exists()


def test_a_left_over_that_cannot_be_read_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "feed-2").write_text("my shopping list\n" * 100)
    (tmp_path / "feed-4.lock").mkdir()
    (tmp_path / "feed-4").mkdir()
    journal = Journal(open_outbox(str(tmp_path), "feed"), 100)
    publish(journal, 1)
    journal.close()
    assert (tmp_path / "feed-2").read_text().startswith("my shopping list")
    assert any("feed-2" in message for message in caplog.messages)


def test_without_a_folder_the_outbox_is_in_memory() -> None:
    assert isinstance(open_outbox("", "ui"), Memory)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match=r"WEBAPP_OUTBOX=.*file/outbox.*Use a path that this user can write"):
        open_outbox(str(tmp_path / "file" / "outbox"), "ui")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        reason = "a small disk takes Linux and root"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_on_a_full_disk_a_trade_is_refused_and_the_next_is_taken_once_there_is_room(small_disk: Path) -> None:
    # A segment takes about 0.5 MiB.
    journal = open_journal(small_disk / "bot", capacity=8_000)
    session = publish(journal, 1)
    with pytest.raises(OutboxError, match=r"No space left on device\. Make room for 51\d,\d+ bytes"):
        publish(journal, 8_000)
    published = journal.pending
    with contextlib.suppress(OutboxError):
        journal.tidy()
    journal.commit(session, 1001)
    journal.tidy()
    publish(journal, 1000)
    assert sent_from(journal)[-1] == (session, published + 1000)
    journal.close()


def test_on_a_disk_that_is_full_at_the_start_old_trades_are_sent_and_new_ones_refused(small_disk: Path) -> None:
    journal = open_journal(small_disk / "bot", 8_000)
    session = publish(journal, 3)
    journal.close()
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    again = open_journal(small_disk / "bot", 8_000)
    assert sent_from(again) == [(session, 1), (session, 2), (session, 3)]
    with pytest.raises(OutboxError, match="No space left"):
        publish(again, 1)
    again.commit(session, 4)
    again.tidy()
    publish(again, 1)
    again.close()


def sqlite_outbox(path: Path, messages: list[tuple[str, int, bytes]]) -> None:
    """An outbox as versions before the journal wrote it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "CREATE TABLE trades (session TEXT, seq INTEGER, message BLOB, PRIMARY KEY (session, seq))"
            " STRICT, WITHOUT ROWID"
        )
        db.executemany("INSERT INTO trades VALUES (?, ?, ?)", messages)


def row(session: str, seq: int, **changes: object) -> tuple[str, int, bytes]:
    message = {"type": "trade", "side": "buy", "qty": 1.5, "ts": 1790000000.5, "session": session, "seq": seq}
    return session, seq, json.dumps({**message, **changes}).encode()


def test_a_sqlite_outbox_is_migrated_once(tmp_path: Path) -> None:
    sqlite_outbox(tmp_path / "bot", [row("one", seq) for seq in range(7, 5000)] + [row("two", 3)])
    journal = open_journal(tmp_path / "bot")
    expected = [("one", "<7"), *(("one", seq) for seq in range(7, 5000)), ("two", "<3"), ("two", 3)]
    assert sent_from(journal) == expected
    kill(journal)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bot", "bot.lock"]
    again = open_journal(tmp_path / "bot")
    assert sent_from(again) == expected
    again.close()


def test_a_trade_of_a_sqlite_outbox_that_breaks_the_contract_makes_a_gap(tmp_path: Path) -> None:
    rows = [row("one", 1), row("one", 2, qty=1e308), row("one", 3), row("two", 1, ts=-1.0)]
    sqlite_outbox(tmp_path / "bot", rows)
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("one", 1), ("one", "<3"), ("one", 3), ("two", "<2")]
    journal.close()


def test_a_migration_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    sqlite_outbox(tmp_path / "bot", [row("one", 1)])
    (tmp_path / "bot.new").mkdir()
    (tmp_path / "bot.new" / "000000000001.journal").write_bytes(b"torn")
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("one", 1)]
    journal.close()


def test_a_migration_that_was_interrupted_at_its_end_is_completed(tmp_path: Path) -> None:
    (tmp_path / "bot.new").mkdir()
    trade = Trade("buy", 1.0, 100.0, "one", 1)
    (tmp_path / "bot.new" / "000000000001.journal").write_bytes(encode(trade) + b"\n")
    (tmp_path / "bot-wal").touch()
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("one", 1)]
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bot", "bot.lock"]


def test_a_sqlite_outbox_of_an_ended_process_is_taken_over(tmp_path: Path) -> None:
    sqlite_outbox(tmp_path / "feed-2", [row("one", 1)])
    journal = Journal(open_outbox(str(tmp_path), "feed"), 100)
    assert sent_from(journal) == [("one", 1)]
    journal.close()


def test_a_file_that_is_no_outbox_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bot"
    path.write_text("my shopping list\n" * 100)
    with pytest.raises(OutboxError, match=r"bot: file is not a database\. Move the file away"):
        Outbox(path)
    assert path.read_text().startswith("my shopping list")


class SlowOutbox(Outbox):
    """An outbox that hands a segment to another thread only when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked, self.told = threading.Event(), threading.Event()

    def create(self, size: int) -> Segment:
        segment = super().create(size)
        if threading.current_thread().name == "preparing":
            self.asked.set()
            assert self.told.wait(10)
        return segment


def test_segments_that_two_threads_need_at_once_are_in_the_order_of_their_trades(tmp_path: Path) -> None:
    outbox = SlowOutbox(tmp_path / "bot")
    journal = Journal(outbox, capacity=80)
    session = publish(journal, 1)
    preparing = threading.Thread(target=journal.tidy, name="preparing")
    preparing.start()
    assert outbox.asked.wait(10)
    publishing = threading.Thread(target=publish, args=(journal, 25))
    publishing.start()
    publishing.join(0.2)  # it may wait for the segment that is being made
    outbox.told.set()
    preparing.join(10)
    publishing.join(10)
    publish(journal, 25)
    kill(journal)
    again = open_journal(tmp_path / "bot")
    assert sent_from(again) == [(session, seq) for seq in range(1, 52)]
    again.close()


def test_a_takeover_that_was_interrupted_is_completed(tmp_path: Path) -> None:
    left = Journal(open_outbox(str(tmp_path), "feed"), 80)
    session = publish(left, 25)
    left.close()
    (tmp_path / "own").mkdir()
    (tmp_path / "feed").rename(tmp_path / "own" / "taken-feed")
    journal = open_journal(tmp_path / "own")
    assert sent_from(journal) == [(session, seq) for seq in range(1, 26)]
    journal.close()
    assert not (tmp_path / "own" / "taken-feed").exists()


def test_a_migration_interrupted_at_its_end_is_found_by_a_takeover(tmp_path: Path) -> None:
    (tmp_path / "feed-2.new").mkdir()
    trade = Trade("buy", 1.0, 100.0, "one", 1)
    (tmp_path / "feed-2.new" / "000000000001.journal").write_bytes(encode(trade) + b"\n")
    journal = Journal(open_outbox(str(tmp_path), "feed"), 100)
    assert sent_from(journal) == [("one", 1)]
    journal.close()


def test_what_a_crash_loop_leaves_takes_little_room_and_no_descriptors(tmp_path: Path) -> None:
    for _ in range(5):
        journal = open_journal(tmp_path / "bot")
        publish(journal, 1)
        kill(journal)
    before = descriptors()
    again = open_journal(tmp_path / "bot")
    assert descriptors() <= before + 1
    assert sum(path.stat().st_size for path in files(tmp_path / "bot")) < 4096
    assert len(sent_from(again)) == 5
    again.close()


def test_a_line_whose_session_is_damaged_makes_a_gap(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    lines = [encode(Trade("buy", 1.0, 100.0, session, seq)) for session, seq in (("a", 1), ("a/b", 2), ("a", 3))]
    (tmp_path / "bot" / "000000000001.journal").write_bytes(b"\n".join(lines) + b"\n")
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("a", 1), ("a", "<3"), ("a", 3)]
    journal.close()


def test_an_outbox_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot", capacity=8)
    publish(journal, 1)
    shutil.rmtree(tmp_path / "bot")
    with pytest.raises(OutboxError, match="No such file or directory"):
        publish(journal, 3)
    kill(journal)
