"""The outbox: a folder that one process holds at a time, with trades that survive the process."""

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
from app_process import environ

from trading_app.journal import Journal
from trading_app.messages import GapFill, Trade, decode, encode
from trading_app.outbox import Outbox, open_outbox
from trading_app.outbox_error import OutboxError, OutboxInUse
from trading_app.segment import Memory, Segment
from trading_app.window import Window


def open_journal(path: Path, capacity: int = 1_000_000) -> Journal:
    return Journal(Outbox(path), capacity)


def publish(journal: Journal, count: int) -> str:
    for _ in range(count):
        journal.append("buy", 1.0, 100.0)
    return journal.newest[0]


def sent_from(journal: Journal) -> list[tuple[str, int | str]]:
    """Send all trades. Return the session and number of each trade, and each gap fill as ``<new_seq``."""
    window, sent = Window(journal), list[tuple[str, int | str]]()
    while frame := window.next_frame():
        for message in map(decode, frame.data.splitlines()):
            sent.append((message.session, f"<{message.new_seq}" if isinstance(message, GapFill) else message.seq))
    return sent


def descriptors() -> int:
    """The number of open file descriptors; 0 on systems without /proc."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def kill(journal: Journal) -> None:
    """Leave the files and release the lock, like a killed process."""
    journal.disown("killed")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def test_the_next_process_finds_the_trades_under_their_session(tmp_path: Path) -> None:
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


def test_committed_trades_of_an_earlier_session_leave_the_window(tmp_path: Path) -> None:
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


def test_trades_survive_a_killed_process(tmp_path: Path) -> None:
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
    with subprocess.Popen([sys.executable, "-c", script], env=environ(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        session = process.stdout.readline().strip()
        with pytest.raises(OutboxInUse, match="another publisher uses this outbox"):
            Outbox(tmp_path / "bot")
        os.kill(process.pid, signal.SIGKILL)
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [(session, seq) for seq in range(1, 101)]
    journal.close()


def test_committed_segments_are_deleted(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot", capacity=80)
    session = publish(journal, 75)
    before = files(tmp_path / "bot")
    journal.commit(session, 61)
    journal.tidy()
    # A file holds ten trades: six files are deleted, and the spare one is new.
    assert len(set(before) - set(files(tmp_path / "bot"))) == 6
    journal.commit(session, 76)
    journal.close()
    assert files(tmp_path / "bot") == []


def test_dropped_trades_are_not_sent_after_a_restart(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot", capacity=8)
    session = publish(journal, 12)
    journal.tidy()
    kill(journal)
    again = open_journal(tmp_path / "bot")
    assert sent_from(again) == [(session, "<5"), *((session, seq) for seq in range(5, 13))]
    again.close()


def test_the_gap_of_a_completely_dropped_session_survives_a_kill(tmp_path: Path) -> None:
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


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
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


def test_lines_missing_in_the_middle_make_a_gap(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("content", [b"", bytes(4096), b"my shopping list\n" * 100], ids=["empty", "zeros", "text"])
def test_a_segment_file_without_trades_is_deleted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "000000000001.journal").write_bytes(content)
    journal = open_journal(tmp_path / "bot")
    assert journal.is_idle
    journal.close()
    assert files(tmp_path / "bot") == []


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "notes.txt").write_text("mine")
    open_journal(tmp_path / "bot").close()
    assert (tmp_path / "bot" / "notes.txt").read_text() == "mine"


def test_programs_of_one_name_have_separate_outboxes_and_take_over_those_left(tmp_path: Path) -> None:
    journals = [Journal(open_outbox(str(tmp_path), name), 100) for name in ("feed", "feed", "ui")]
    sessions = [publish(journal, 2) for journal in journals]
    for journal in journals:
        journal.close()
    for _ in range(2):
        heir = Journal(open_outbox(str(tmp_path), "feed"), 100)
        assert sorted(sent_from(heir)) == sorted((session, seq) for session in sessions[:2] for seq in (1, 2))
        heir.close()
    assert not (tmp_path / "feed-2").exists()


def test_a_link_to_an_outbox_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "outbox")
    with contextlib.closing(Outbox(tmp_path / "outbox")), pytest.raises(OutboxInUse):
        Outbox(tmp_path / "link")


def test_an_outbox_that_cannot_be_taken_over_stays_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "feed-2").write_text("my shopping list\n" * 100)
    (tmp_path / "feed-4.lock").mkdir()
    (tmp_path / "feed-4").mkdir()
    journal = Journal(open_outbox(str(tmp_path), "feed"), 100)
    publish(journal, 1)
    journal.close()
    assert (tmp_path / "feed-2").read_text().startswith("my shopping list")
    (line,) = caplog.messages[:1]
    assert line == (
        f"{tmp_path}/feed-2: file is not a database. Move the file away, or use another path. Its trades stay there"
    )


def test_without_a_folder_trades_stay_in_memory() -> None:
    assert isinstance(open_outbox("", "ui"), Memory)


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match=r"WEBAPP_OUTBOX=.*file/outbox.*Use a path that this user can write"):
        open_outbox(str(tmp_path / "file" / "outbox"), "ui")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The path of a file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        reason = "mounting a small disk requires Linux and root"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_trades_until_there_is_room(small_disk: Path) -> None:
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


def test_a_disk_full_at_the_start_still_sends_old_trades(small_disk: Path) -> None:
    journal = open_journal(small_disk / "bot", 8_000)
    session = publish(journal, 3)
    journal.close()
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    again = open_journal(small_disk / "bot", 8_000)
    assert sent_from(again) == [(session, 1), (session, 2), (session, 3)]
    with pytest.raises(OutboxError, match=r"No space left on device\. Make room for [\d,]+ bytes$"):
        publish(again, 1)
    again.commit(session, 4)
    again.tidy()
    publish(again, 1)
    again.close()


def sqlite_outbox(path: Path, messages: list[tuple[str, int, bytes]]) -> None:
    """Write an outbox like the versions before the journal did."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "CREATE TABLE trades (session TEXT, seq INTEGER, message BLOB, PRIMARY KEY (session, seq))"
            " STRICT, WITHOUT ROWID"
        )
        # One transaction: a commit for each row would take seconds.
        db.execute("BEGIN")
        db.executemany("INSERT INTO trades VALUES (?, ?, ?)", messages)
        db.execute("COMMIT")


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


def test_an_invalid_trade_in_a_sqlite_outbox_makes_a_gap(tmp_path: Path) -> None:
    rows = [row("one", 1), row("one", 2, qty=1e308), row("one", 3), row("two", 1, ts=-1.0)]
    sqlite_outbox(tmp_path / "bot", rows)
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("one", 1), ("one", "<3"), ("one", 3), ("two", "<2")]
    journal.close()


def test_an_interrupted_migration_starts_again(tmp_path: Path) -> None:
    sqlite_outbox(tmp_path / "bot", [row("one", 1)])
    (tmp_path / "bot.new").mkdir()
    for number in 1, 2:
        leftover = encode(Trade("buy", 1.0, 100.0, "leftover", number)) + b"\n"
        (tmp_path / "bot.new" / f"{number:012}.journal").write_bytes(leftover)
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("one", 1)]
    journal.close()


def test_a_migration_interrupted_in_its_last_step_is_completed(tmp_path: Path) -> None:
    (tmp_path / "bot.new").mkdir()
    trade = Trade("buy", 1.0, 100.0, "one", 1)
    (tmp_path / "bot.new" / "000000000001.journal").write_bytes(encode(trade) + b"\n")
    (tmp_path / "bot-wal").touch()
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("one", 1)]
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bot", "bot.lock"]


def test_a_sqlite_outbox_left_by_another_process_is_taken_over(tmp_path: Path) -> None:
    sqlite_outbox(tmp_path / "feed-2", [row("one", 1)])
    journal = Journal(open_outbox(str(tmp_path), "feed"), 100)
    assert sent_from(journal) == [("one", 1)]
    journal.close()


def test_a_file_that_is_not_an_outbox_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "bot"
    path.write_text("my shopping list\n" * 100)
    with pytest.raises(OutboxError, match=r"bot: file is not a database\. Move the file away"):
        Outbox(path)
    assert path.read_text().startswith("my shopping list")


class SlowOutbox(Outbox):
    """An outbox that keeps the thread ``preparing`` waiting in `create` until ``released`` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.creating, self.released = threading.Event(), threading.Event()

    def create(self, size: int) -> Segment:
        segment = super().create(size)
        if threading.current_thread().name == "preparing":
            self.creating.set()
            assert self.released.wait(10)
        return segment


def test_segments_created_by_two_threads_are_in_the_order_of_their_trades(tmp_path: Path) -> None:
    outbox = SlowOutbox(tmp_path / "bot")
    journal = Journal(outbox, capacity=80)
    session = publish(journal, 1)
    preparing = threading.Thread(target=journal.tidy, name="preparing")
    preparing.start()
    assert outbox.creating.wait(10)
    publishing = threading.Thread(target=publish, args=(journal, 25))
    publishing.start()
    publishing.join(0.2)  # It may wait for the segment that is being created.
    outbox.released.set()
    preparing.join(10)
    publishing.join(10)
    publish(journal, 25)
    kill(journal)
    again = open_journal(tmp_path / "bot")
    assert sent_from(again) == [(session, seq) for seq in range(1, 52)]
    again.close()


def test_an_interrupted_takeover_is_completed(tmp_path: Path) -> None:
    left = Journal(open_outbox(str(tmp_path), "feed"), 80)
    session = publish(left, 25)
    left.close()
    (tmp_path / "own").mkdir()
    (tmp_path / "feed").rename(tmp_path / "own" / "taken-feed")
    journal = open_journal(tmp_path / "own")
    assert sent_from(journal) == [(session, seq) for seq in range(1, 26)]
    journal.close()
    assert not (tmp_path / "own" / "taken-feed").exists()


def test_a_takeover_completes_an_interrupted_migration(tmp_path: Path) -> None:
    (tmp_path / "feed-2.new").mkdir()
    trade = Trade("buy", 1.0, 100.0, "one", 1)
    (tmp_path / "feed-2.new" / "000000000001.journal").write_bytes(encode(trade) + b"\n")
    journal = Journal(open_outbox(str(tmp_path), "feed"), 100)
    assert sent_from(journal) == [("one", 1)]
    journal.close()


def test_segments_left_by_a_crash_loop_take_little_room_and_no_descriptors(tmp_path: Path) -> None:
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


def test_a_line_with_an_invalid_session_makes_a_gap(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    lines = [encode(Trade("buy", 1.0, 100.0, session, seq)) for session, seq in (("a", 1), ("a/b", 2), ("a", 3))]
    (tmp_path / "bot" / "000000000001.journal").write_bytes(b"\n".join(lines) + b"\n")
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("a", 1), ("a", "<3"), ("a", 3)]
    journal.close()


def test_a_deleted_folder_raises_an_outbox_error(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot", capacity=8)
    publish(journal, 1)
    shutil.rmtree(tmp_path / "bot")
    with pytest.raises(OutboxError, match="No such file or directory"):
        publish(journal, 3)
    kill(journal)


def test_a_file_with_a_gap_is_deleted_only_with_its_last_trades(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    lines = [encode(Trade("buy", 1.0, 100.0, "a", seq)) for seq in (1, 3)]
    (tmp_path / "bot" / "000000000001.journal").write_bytes(b"\n".join(lines) + b"\n")
    first = open_journal(tmp_path / "bot")
    first.commit("a", 2)
    first.tidy()
    kill(first)
    second = open_journal(tmp_path / "bot")
    assert ("a", 3) in sent_from(second)
    second.close()


def test_a_segment_that_cannot_be_allocated_leaves_no_file(small_disk: Path) -> None:
    outbox = Outbox(small_disk / "bot")
    with pytest.raises(OutboxError, match=r"Make room for 10,000,000 bytes$"):
        outbox.create(10_000_000)
    assert files(small_disk / "bot") == []
    outbox.close()


def test_an_interrupted_takeover_comes_before_the_next_one(tmp_path: Path) -> None:
    """Both takeovers are of a folder of the same name, and the first must not be in the way of the second."""
    sessions = []
    for destination in tmp_path / "feed" / "taken-feed-2", tmp_path / "feed-2":
        left = open_journal(tmp_path / "left")
        sessions.append(publish(left, 1))
        left.close()
        destination.parent.mkdir(exist_ok=True)
        (tmp_path / "left").rename(destination)
    journal = Journal(open_outbox(str(tmp_path), "feed"), 100)
    assert sent_from(journal) == [(session, 1) for session in sessions]
    journal.close()


def test_a_large_sqlite_outbox_is_migrated_to_several_segments(tmp_path: Path) -> None:
    sqlite_outbox(tmp_path / "bot", [row("one", seq, symbol="X" * 32) for seq in range(1, 36_000)])
    kill(open_journal(tmp_path / "bot"))
    assert len(files(tmp_path / "bot")) == 2
    assert all(path.stat().st_size <= 4 << 20 for path in files(tmp_path / "bot"))


def test_a_session_that_starts_where_another_ended_gets_its_gap_fill(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    lines = [encode(Trade("buy", 1.0, 100.0, session, seq)) for session, seq in (("a", 1), ("a", 2), ("b", 3))]
    (tmp_path / "bot" / "000000000001.journal").write_bytes(b"\n".join(lines) + b"\n")
    journal = open_journal(tmp_path / "bot")
    assert sent_from(journal) == [("a", 1), ("a", 2), ("b", "<3"), ("b", 3)]
    journal.close()


def test_a_smaller_capacity_drops_the_oldest_of_the_trades_left(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "bot", capacity=80)
    session = publish(journal, 25)
    kill(journal)
    again = open_journal(tmp_path / "bot", capacity=8)
    assert (again.pending, again.losses.count) == (5, 20)
    assert sent_from(again) == [(session, "<21"), *((session, seq) for seq in range(21, 26))]
    again.close()
