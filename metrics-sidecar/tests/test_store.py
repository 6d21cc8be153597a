"""The state file: commits survive, damaged and foreign files are refused, idle sessions are forgotten."""

import contextlib
import random
import re
import sqlite3
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from metrics_sidecar.ledger import Ledger, Totals
from metrics_sidecar.messages import MAX_SEQ, GapFill, Side, Trade
from metrics_sidecar.store import Cursor, Store
from metrics_sidecar.store_error import StoreError
from metrics_sidecar.tallies import Series

FORMAT_1 = """
BEGIN;
CREATE TABLE totals (
    trades_buy INTEGER NOT NULL, trades_sell INTEGER NOT NULL,
    volume_buy REAL NOT NULL, volume_sell REAL NOT NULL,
    last_trade_ts REAL NOT NULL, lost REAL NOT NULL
) STRICT;
INSERT INTO totals VALUES (3, 2, 1.5, 2.5, 1790000000.5, 7.0);
CREATE TABLE sessions (
    session TEXT PRIMARY KEY, next_seq INTEGER NOT NULL, moved_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO sessions VALUES ('a', 4, 1790000000.0), ('b', 9223372036854775807, 1790000000.0);
PRAGMA user_version = 1;
COMMIT;
"""


def refused(pattern: str) -> AbstractContextManager[object]:
    """Expect a StoreError whose cause and remedy, as the user reads them, contain the pattern."""
    return pytest.raises(StoreError, check=lambda error: bool(re.search(pattern, f"{error.cause}. {error.remedy}")))


def write_format_1(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(FORMAT_1)


def test_a_new_file_starts_from_zero(tmp_path: Path) -> None:
    ledger = Store(tmp_path / "missing" / "folder" / "state.sqlite3").load()
    assert {key: series[1:] for key, series in ledger.totals().series.items()} == {
        ("buy", ""): (0, 0.0, 0.0),
        ("sell", ""): (0, 0.0, 0.0),
    }
    assert ledger.next_seq == {}


def test_the_state_file_records_its_creation_time(tmp_path: Path) -> None:
    before = time.time()
    store = Store(tmp_path / "state.sqlite3")
    created = {series.created for series in store.load().totals().series.values()}
    assert len(created) == 1
    # SQLite's clock has a resolution of 1 ms.
    assert before - 0.01 <= min(created) <= time.time() + 0.01
    store.close()
    assert {series.created for series in Store(tmp_path / "state.sqlite3").load().totals().series.values()} == created


def test_committed_totals_and_cursors_survive_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load()
    ledger.apply([Trade("buy", 0.1, 100.5, "a", 1)], 101.0)
    ledger.apply([Trade("sell", 0.2, 100.25, symbol="BTC-USD", price=0.1)], 101.0)
    ledger.apply([GapFill("b", 1000)], 101.0)
    store.commit(ledger)
    ledger.apply([Trade("buy", 0.2, 102.0, "a", 2)], 103.0)
    committed = store.commit(ledger)
    ledger.apply([Trade("buy", 1.0, 104.0, "a", 3)], 105.0)  # Never committed.
    store.close()

    again = Store(tmp_path / "state.sqlite3").load()
    assert again.totals() == committed
    assert again.totals().series["buy", ""].volume == 0.1 + 0.2
    assert again.next_seq == {"a": 3, "b": 1000}


def test_the_highest_possible_cursor_survives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load()
    for session in "a", "b":
        ledger.apply([GapFill(session, MAX_SEQ + 1)], 101.0)
    store.commit(ledger)
    store.close()
    assert Store(tmp_path / "state.sqlite3").load().next_seq == {"a": MAX_SEQ + 1, "b": MAX_SEQ + 1}


def test_without_a_file_the_state_is_in_memory_only() -> None:
    store = Store(None)
    ledger = store.load()
    ledger.apply([Trade("buy", 1.0, 100.0)], 100.0)
    assert store.commit(ledger).series["buy", ""].trades == 1
    assert Store(None).load().totals().series["buy", ""].trades == 0


def test_the_file_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state.sqlite3").symlink_to(tmp_path / "elsewhere/state.sqlite3")
    with contextlib.closing(Store(tmp_path / "state.sqlite3")) as store:
        ledger = store.load()
        ledger.apply([Trade("buy", 1.0, 1.0)], 2.0)
        store.commit(ledger)
        store.require_file()
    assert Store(tmp_path / "elsewhere/state.sqlite3").load().totals() == ledger.totals()


def test_a_file_in_use_by_another_sidecar_is_refused(tmp_path: Path) -> None:
    holder = Store(tmp_path / "state.sqlite3")
    with refused("^another sidecar holds this file. Stop it, or give each sidecar a file of its own$"):
        Store(tmp_path / "state.sqlite3")
    holder.close()
    Store(tmp_path / "state.sqlite3").close()


def test_a_file_that_is_not_a_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    path.write_text("my shopping list\n" * 100)
    with refused(r"not a database.*move it away"):
        Store(path)
    assert path.read_text().startswith("my shopping list")


def test_a_file_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with refused(r"\(format 99; it reads 1 and 2\)\. Run the version that wrote it"):
        Store(path)


def test_a_database_of_another_program_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE songs (title TEXT)")
    database.close()
    before = path.read_bytes()
    with refused("^not a state file that this sidecar can read"):
        Store(path)
    assert path.read_bytes() == before


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = Store(path)
    ledger = store.load()
    for number in range(1000):
        ledger.apply([Trade("buy", 1.0, 100.0, f"session-{number}", 1)], 100.0)
    store.commit(ledger)
    store.close()
    damaged = bytearray(path.read_bytes())
    damaged[8192:12288] = b"x" * 4096
    path.write_bytes(damaged)
    with refused("^damaged: .* move it away to start from zero$"):
        Store(path)


def test_a_file_of_format_1_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    write_format_1(path)
    store = Store(path)
    ledger = store.load()
    series: dict[tuple[Side, str], Series] = {("buy", ""): Series(0.0, 3, 1.5), ("sell", ""): Series(0.0, 2, 2.5)}
    expected = Totals(series, 1790000000.5, tracked=0, lost=7)
    assert ledger.totals() == expected
    assert type(ledger.totals().lost) is int
    assert ledger.next_seq == {"a": 4, "b": 2**63 - 1}
    ledger.apply([Trade("buy", 1.0, 100.0, "a", 4)], 100.0)
    store.commit(ledger)
    store.close()
    again = Store(path)
    assert again.state_id == store.state_id
    assert again.load().totals().series["buy", ""].trades == 4
    assert again.load().totals().tracked == 1
    again.close()


def test_format_1_values_outside_the_contract_are_reset_to_zero(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    write_format_1(path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE totals SET volume_buy = 9e999, last_trade_ts = -1e308")
    totals = Store(path).load().totals()
    assert totals.series == {("buy", ""): Series(0.0, 3, 0.0), ("sell", ""): Series(0.0, 2, 2.5)}
    assert totals.last_trade_ts == 0.0


def test_the_lost_count_saturates_at_the_largest_integer(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    write_format_1(path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE totals SET lost = 1e19")
    store = Store(path)
    ledger = store.load()
    ledger.apply([GapFill("c", 10)], 100.0)
    store.commit(ledger)
    assert store.load().totals().lost == 2**63 - 1
    store.close()


def test_a_failed_migration_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    write_format_1(path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE VIEW sessions_1 AS SELECT 1")  # Conflicts with a later step of the migration.
    with refused("^damaged: .*sessions_1"):
        Store(path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT trades_buy, lost FROM totals").fetchall() == [(3, 7.0)]
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


def test_each_state_file_has_its_own_state_id(tmp_path: Path) -> None:
    first, second, memory = Store(tmp_path / "a.sqlite3"), Store(tmp_path / "b.sqlite3"), Store(None)
    assert len({first.state_id, second.state_id, memory.state_id}) == 3
    assert first.cursor("a") == Cursor("a", 1, first.state_id)
    first.close()
    assert Store(tmp_path / "a.sqlite3").state_id == first.state_id


class Clock:
    """A clock that only `run` advances."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def run(self, days: float) -> None:
        self.seconds += days * 86_400


def count(ledger: Ledger, store: Store, session: str) -> None:
    """Count and commit the next trade of a session."""
    ledger.apply([Trade("buy", 1.0, 100.0, session, ledger.next_seq.get(session, 1))], 100.0)
    store.commit(ledger)


def test_a_session_idle_for_30_days_of_running_time_is_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path / "state.sqlite3", clock)
    ledger = store.load()
    count(ledger, store, "idle")
    for _ in range(31):
        assert "idle" in ledger.next_seq
        count(ledger, store, "living")
        clock.run(days=1)
    count(ledger, store, "living")
    assert ledger.next_seq == {"living": 33}
    assert (store.cursor("idle").next_seq, store.cursor("living").next_seq) == (1, 33)
    store.close()
    assert Store(tmp_path / "state.sqlite3").load().next_seq == {"living": 33}


def test_downtime_does_not_count_as_idle_time(tmp_path: Path) -> None:
    clock = Clock()
    for start in 1, 2:
        clock.seconds = 1000.0 * start  # A monotonic clock starts anywhere after a reboot.
        store = Store(tmp_path / "state.sqlite3", clock)
        ledger = store.load()
        if start == 1:
            count(ledger, store, "idle")
        clock.run(days=14)
        count(ledger, store, "living")
        store.close()
        clock.run(days=365)
        assert "idle" in ledger.next_seq
    store = Store(tmp_path / "state.sqlite3", clock)
    ledger = store.load()
    assert set(ledger.next_seq) == {"idle", "living"}
    clock.run(days=3)
    count(ledger, store, "living")
    assert set(ledger.next_seq) == {"living"}
    store.close()


def test_a_jump_of_the_system_clock_forgets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load()
    count(ledger, store, "idle")
    now = time.time()
    for days in 40, -40:
        monkeypatch.setattr(time, "time", lambda days=days: now + days * 86_400)
        count(ledger, store, "living")
        store.close()
        store = Store(tmp_path / "state.sqlite3")
        ledger = store.load()
        count(ledger, store, "living")
        assert "idle" in ledger.next_seq
    store.close()


def test_sessions_of_format_1_are_kept_for_30_days_after_the_migration(tmp_path: Path) -> None:
    write_format_1(tmp_path / "state.sqlite3")
    clock = Clock()
    store = Store(tmp_path / "state.sqlite3", clock)
    ledger = store.load()
    clock.run(days=29)
    count(ledger, store, "a")
    assert set(ledger.next_seq) == {"a", "b"}
    clock.run(days=2)
    count(ledger, store, "a")
    assert set(ledger.next_seq) == {"a"}
    store.close()


def write_sessions(path: Path) -> Ledger:
    """Write a state file with 400 sessions, after some moved and one was forgotten. Returns its ledger."""
    clock = Clock()
    store = Store(path, clock)
    ledger = store.load()
    ledger.apply([Trade("sell", 0.5, 1790000000.25, symbol="BTC-USD", price=64250.5), GapFill("gone", 5)], 100.0)
    store.commit(ledger)
    clock.run(days=31)
    for number in range(600):
        ledger.apply([Trade("buy", 0.1, 1790000000.5, f"session-{number % 400}", number // 400 + 1)], 100.0)
        ledger.apply([Trade("sell", 0.1, 1790000000.5, symbol=f"SYM-{number % 120}", price=0.1)], 100.0)
        if number % 100 == 0:
            store.commit(ledger)
    store.commit(ledger)
    assert len(ledger.next_seq) == 400
    store.close()
    return ledger


def test_a_flipped_bit_is_detected_or_harmless(tmp_path: Path) -> None:
    path, damaged = tmp_path / "state.sqlite3", tmp_path / "damaged.sqlite3"
    written = write_sessions(path)
    sound = path.read_bytes()
    chance = random.Random(300)
    refusals = []
    for _ in range(300):
        position, bit = chance.randrange(len(sound)), chance.randrange(8)
        flipped = bytearray(sound)
        flipped[position] ^= 1 << bit
        damaged.write_bytes(flipped)
        try:
            store = Store(damaged)
        except StoreError as error:
            refusals.append(f"{error.cause}. {error.remedy}")
        else:
            ledger = store.load()
            assert (ledger.totals(), ledger.next_seq) == (written.totals(), written.next_seq), (position, bit)
            store.close()
        for left in tmp_path.glob("damaged.sqlite3-*"):
            left.unlink()
    assert len(refusals) > 100
    assert all(refusal.isprintable() for refusal in refusals)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE series SET trades = trades + 1 WHERE side = 'buy' AND symbol = ''",
        "UPDATE totals SET age = age + 1",
        "UPDATE series SET symbol = 'ETH-USD' WHERE symbol = 'BTC-USD'",
        "DELETE FROM series WHERE symbol = 'BTC-USD'",
        "UPDATE sessions SET next_seq = 7 WHERE session = 'session-3'",
        "UPDATE sessions SET moved_at = 7 WHERE session = 'session-3'",
        "DELETE FROM sessions WHERE session = 'session-3'",
        "DELETE FROM totals",
        "INSERT INTO totals SELECT * FROM totals",
        "UPDATE sessions SET session = CAST(x'ff' AS TEXT) WHERE session = 'session-3'",
    ],
)
def test_a_change_made_by_another_program_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "state.sqlite3"
    write_sessions(path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(change)
    with refused("^damaged: .*Restore it from a backup, or move it away to start from zero"):
        Store(path)


def test_numbers_that_sqlite_normalizes_match_the_checksum(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load()
    ledger.apply([Trade("buy", -0.0, -0.0), Trade("sell", 5e-324, -0.0)], 100.0)
    store.commit(ledger)
    store.close()
    assert Store(tmp_path / "state.sqlite3").load().totals() == ledger.totals()


def test_the_cost_of_a_commit_does_not_depend_on_the_number_of_sessions(tmp_path: Path) -> None:
    def seconds(sessions: int) -> float:
        """The duration of 50 commits."""
        store = Store(tmp_path / f"{sessions}.sqlite3")
        ledger = store.load()
        ledger.apply([Trade("buy", 1.0, 100.0, f"session-{number}", 1) for number in range(sessions)], 100.0)
        store.commit(ledger)
        started = time.process_time()
        for _ in range(50):
            count(ledger, store, "session-7")
        store.close()
        return time.process_time() - started

    # Reading all sessions would take more than a hundred times as long.
    assert seconds(30_000) < 10 * seconds(100)


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_commits_fail_while_the_file_is_moved_away_or_replaced(tmp_path: Path, suffix: str) -> None:
    path, away = tmp_path / f"state.sqlite3{suffix}", tmp_path / "away"
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load()
    for replace in False, True:
        path.rename(away)
        if replace:
            path.write_bytes(away.read_bytes())
        with refused(r"the state file \S+ was removed or replaced: put it back, or restart from zero"):
            count(ledger, store, "a")
        away.replace(path)
        count(ledger, store, "a")
    assert store.cursor("a").next_seq == ledger.next_seq["a"]
    store.close()


def test_a_full_or_read_only_disk_is_refused(small_disk: Path) -> None:
    path = small_disk / "state.sqlite3"
    Store(path).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with refused(r"Use a file that this user can write"):
        Store(path)
    with refused(r"Use a file that this user can write"):
        Store(small_disk / "new.sqlite3")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    with refused("^database or disk is full"):
        Store(small_disk / "new.sqlite3")


def test_commits_continue_when_the_write_ahead_log_has_filled_the_disk(small_disk: Path) -> None:
    path = small_disk / "state.sqlite3"
    Store(path).close()  # Writes all pages to the file itself.
    store = Store(path)
    ledger = store.load()
    for _ in range(200):
        count(ledger, store, "a")
    assert store.cursor("a").next_seq == 201
    store.close()


def test_idle_sessions_are_forgotten_after_a_commit_that_failed(small_disk: Path) -> None:
    clock = Clock()
    store = Store(small_disk / "state.sqlite3", clock)
    ledger = store.load()
    count(ledger, store, "idle")
    clock.run(days=31)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            continue
    ledger.next_seq |= dict.fromkeys((f"{number}-{'x' * 50}" for number in range(3_000)), 2)
    ledger.dirty_sessions |= ledger.next_seq.keys() - {"idle"}
    with pytest.raises(StoreError, match="full"):
        store.commit(ledger)
    ballast.unlink()
    store.commit(ledger)
    assert "idle" not in ledger.next_seq
    store.close()


@pytest.mark.parametrize("name", ["", "a-file/state.sqlite3"])
def test_a_path_that_is_not_writable_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-file").touch()
    with refused("Use a file that this user can write"):
        Store(tmp_path / name)
