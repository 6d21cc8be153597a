"""A folder of segments on disk. Its trades survive the process."""

import fcntl
import logging
import mmap
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import count
from os import PathLike
from pathlib import Path
from typing import IO

from trading_app.outbox_error import OutboxError, OutboxInUse, outbox_errors
from trading_app.recovery import read_segments
from trading_app.segment import Memory, Segment, gap_line

log = logging.getLogger(__name__)

_SEGMENT = re.compile(r"\d{12}\.journal")
_TAKEN = "taken-"
# Map all pages at once if the platform can, so that publish() never waits for a page fault.
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)


class Outbox:
    """Stores segments in a folder, which it locks until `close`.

    If an earlier version has left a SQLite outbox at the path, it is migrated first.

    Args:
        path: the folder. It is created with its parents if missing.
        others: folders to move segments from, unless another publisher holds them.

    Raises:
        OutboxInUse: another publisher holds the folder.
        OutboxError: the folder cannot be used.
    """

    def __init__(self, path: str | PathLike[str], others: Iterable[Path] = ()) -> None:
        # The lock is beside the folder, so a link to the folder must lead to the same lock.
        self.path = path = Path(path).resolve()
        with outbox_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
        try:
            with outbox_errors(path):
                _open_folder(path)
                self._flatten()
                for other in others:
                    self._take_over(other)
                self._flatten()
        except OutboxError:
            self.close()
            raise

    def load(self) -> list[Segment]:
        """Return the segments that earlier processes left, oldest first.

        Raises:
            OutboxError: a file cannot be read.
        """
        with outbox_errors(self.path):
            return [segment for path in _files(self.path) for segment in self._read(path)]

    def create(self, size: int) -> Segment:
        """Return an empty segment of ``size`` bytes, all allocated on the disk. It comes after all others.

        Raises:
            OutboxError: the disk has no room.
        """
        with outbox_errors(self.path, size):
            path = self._next_path()
            with path.open("x+b") as file:
                try:
                    _allocate(file, size)
                    return Segment(mmap.mmap(file.fileno(), size, mmap.MAP_SHARED | _POPULATE), path)
                except OSError:
                    path.unlink()
                    raise

    def remove(self, segment: Segment) -> None:
        """Delete a segment's file."""
        segment.close()
        if segment.path:
            _delete(segment.path)

    def keep_gap(self, segment: Segment) -> None:
        """Replace the file of a segment whose trades were dropped by its gap line."""
        segment.close()
        if not segment.path:
            return
        replacement = segment.path.with_suffix(".new")
        try:
            replacement.write_bytes(gap_line(segment))
            replacement.replace(segment.path)
        except OSError as error:
            log.warning("%s: %s. The file still holds dropped trades", segment.path, error.strerror)

    def disown(self) -> None:
        """In a forked process, release the copy of the lock, so that it ends with the parent."""
        self._lock.close()

    def close(self) -> None:
        """Release the folder."""
        self._lock.close()

    @property
    def fate(self) -> str:
        """What happens to the trades that are left when the outbox is closed."""
        return f"they stay in {self.path} for the next process"

    def _next_path(self) -> Path:
        files = _files(self.path)
        number = int(files[-1].stem) + 1 if files else 1
        return self.path / f"{number:012}.journal"

    def _read(self, path: Path) -> list[Segment]:
        segments = read_segments(path)
        if segments:
            # No more trades are appended to this file, so give unused room back.
            os.truncate(path, segments[-1].end)
        else:
            path.unlink()
        return segments

    def _take_over(self, other: Path) -> None:
        """Move another folder into this one, unless a publisher holds it."""
        try:
            with outbox_errors(other), _lock(other):
                _open_folder(other)
                # One rename moves them all: a session must not be split between two processes.
                other.rename(self.path / f"{_TAKEN}{other.name}")
        except OutboxInUse:
            pass  # Its publisher sends them.
        except OutboxError as error:
            log.warning("%s. Its trades stay there", error)

    def _flatten(self) -> None:
        """Move the segments of taken folders behind this folder's own segments."""
        for taken in sorted(self.path.glob(f"{_TAKEN}*")):
            for path in _files(taken):
                path.rename(self._next_path())
            shutil.rmtree(taken)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _SEGMENT.fullmatch(path.name))


def open_outbox(folder: str, name: str) -> Outbox | Memory:
    """Return the outbox of the program ``name``: a subfolder of ``folder``, or memory if ``folder`` is empty.

    The subfolder is ``name``, ``name-2`` for a second process of the same name, and so on. A new process takes over the
    trades in numbered subfolders that no process holds.

    Raises:
        OutboxError: the folder cannot be used.
    """
    if not folder:
        return Memory()
    for number in count(1):
        own = Path(folder) / (f"{name}-{number}" if number > 1 else name)
        try:
            return Outbox(own, [other for other in _numbered(Path(folder), name) if other != own])
        except OutboxInUse:
            continue
        except OutboxError as error:
            raise OutboxError(f"WEBAPP_OUTBOX={folder}: {error}") from None
    raise AssertionError("count() never ends")


def _numbered(folder: Path, name: str) -> Iterator[Path]:
    # A migration interrupted in its last step leaves only NAME-2.new.
    names = {path.name.removesuffix(".new") for path in folder.glob(f"{name}-*")}
    return (folder / other for other in sorted(names) if re.fullmatch(r"\d+", other.removeprefix(f"{name}-")))


def _open_folder(path: Path) -> None:
    """Create the folder, or migrate the SQLite outbox that an earlier version left in its place."""
    migrated = path.with_name(f"{path.name}.new")
    if path.is_file():
        # Few processes find such a file, and only they need sqlite3.
        from trading_app import sqlite_outbox  # noqa: PLC0415

        sqlite_outbox.migrate(path, migrated)
        path.unlink()
    # The SQLite file is deleted only once the migration is complete.
    if migrated.is_dir() and not path.exists():
        for leftover in "-wal", "-shm":
            path.with_name(path.name + leftover).unlink(missing_ok=True)
        migrated.rename(path)
    path.mkdir(exist_ok=True)


def _allocate(file: IO[bytes], size: int) -> None:
    """Allocate the room on the disk now. Without room, a write to a mapped page would raise SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.write(bytes(size))
        file.flush()


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s: %s. The next process sends its trades again; they are committed", path, error.strerror)


def _lock(path: Path) -> IO[bytes]:
    """Lock an outbox until the returned file is closed or the process ends.

    Raises:
        OutboxInUse: another publisher holds it.
        OSError: the lock file cannot be opened.
    """
    lock = path.with_name(f"{path.name}.lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OutboxInUse(f"{path}: another publisher uses this outbox. Give each its own") from None
    return lock
