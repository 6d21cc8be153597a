"""The state file: what was committed is there again, and a file that cannot be used is refused."""

import contextlib
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from metrics_sidecar.messages import GapFill, Trade
from metrics_sidecar.settings import SettingError
from metrics_sidecar.store import Store


def test_a_new_file_starts_from_zero(tmp_path: Path) -> None:
    ledger = Store(tmp_path / "deep" / "er" / "state.sqlite3").load()
    assert ledger.totals().trades == {"buy": 0, "sell": 0}
    assert ledger.next_seq == {}


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load()
    ledger.apply([Trade("buy", 0.1, 100.5, "a", 1)], 101.0)
    ledger.apply([Trade("sell", 0.2, 100.25)], 101.0)
    ledger.apply([GapFill("b", 1000)], 101.0)
    store.commit(ledger)
    ledger.apply([Trade("buy", 0.2, 102.0, "a", 2)], 103.0)
    committed = store.commit(ledger)
    ledger.apply([Trade("buy", 1.0, 104.0, "a", 3)], 105.0)  # never committed
    store.close()

    again = Store(tmp_path / "state.sqlite3").load()
    assert again.totals() == committed
    assert again.totals().volume == {"buy": 0.1 + 0.2, "sell": 0.2}
    assert again.next_seq == {"a": 3, "b": 1000}


def test_the_greatest_cursor_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load()
    for session in "a", "b":
        ledger.apply([GapFill(session, 2**63 - 2)], 101.0)
        ledger.apply([Trade("buy", 1.0, 100.0, session, 2**63 - 2)], 101.0)
    store.commit(ledger)
    store.close()
    assert Store(tmp_path / "state.sqlite3").load().next_seq == {"a": 2**63 - 1, "b": 2**63 - 1}


def test_without_a_file_nothing_is_kept() -> None:
    store = Store(None)
    ledger = store.load()
    ledger.apply([Trade("buy", 1.0, 100.0)], 100.0)
    assert store.commit(ledger).trades["buy"] == 1
    assert Store(None).load().totals().trades["buy"] == 0


def test_a_file_that_another_side_car_holds_is_refused(tmp_path: Path) -> None:
    holder = Store(tmp_path / "state.sqlite3")
    with pytest.raises(SettingError, match="another side-car"):
        Store(tmp_path / "state.sqlite3")
    holder.close()
    Store(tmp_path / "state.sqlite3").close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    path.write_text("my shopping list\n" * 100)
    with pytest.raises(SettingError, match=r"SIDECAR_STATE=.*not a database.*move it away"):
        Store(path)
    assert path.read_text().startswith("my shopping list")


def test_a_file_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(SettingError, match="format 99"):
        Store(path)


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE songs (title TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(SettingError, match="not a state file"):
        Store(path)
    assert path.read_bytes() == before


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
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
    with pytest.raises(SettingError, match=r"SIDECAR_STATE=.*move it away to start from zero"):
        Store(path)


def test_the_cursor_of_an_idle_session_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "state.sqlite3")
    ledger = store.load()
    now = time.time()
    for session, age in ("old", 31), ("young", 29):
        monkeypatch.setattr(time, "time", lambda age=age: now - age * 86_400)
        ledger.apply([Trade("buy", 1.0, 100.0, session, 1)], 100.0)
        store.commit(ledger)
    monkeypatch.undo()
    store.forget_idle(ledger)
    assert ledger.next_seq == {"young": 2}
    assert (store.next_seq("old"), store.next_seq("young")) == (1, 2)
    store.close()


def test_a_disk_that_is_full_or_takes_no_writes_is_refused(small_disk: Path) -> None:
    path = small_disk / "state.sqlite3"
    Store(path).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(SettingError, match=r"SIDECAR_STATE=.*Set it to a file this user can write"):
        Store(path)
    with pytest.raises(SettingError, match=r"SIDECAR_STATE=.*Set it to a file this user can write"):
        Store(small_disk / "new.sqlite3")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    with pytest.raises(SettingError, match="disk is full"):
        Store(small_disk / "new.sqlite3")


@pytest.mark.parametrize("name", ["", "a-file/state.sqlite3"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-file").touch()
    with pytest.raises(SettingError, match="SIDECAR_STATE="):
        Store(tmp_path / name)
