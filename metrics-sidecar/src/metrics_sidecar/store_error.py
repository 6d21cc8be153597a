"""Errors of the state file, each with a cause and a remedy."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

_NOT_WRITABLE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


class StoreError(Exception):
    """The state file cannot be used. ``cause`` and ``remedy`` are for the user."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn errors of SQLite and the file system into a StoreError."""
    try:
        yield
    # sqlite3 raises UnicodeDecodeError when SQLite's message quotes damaged text.
    except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
        raise _explain(error) from None


def _explain(error: Exception) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    cause = "".join(character if character.isprintable() else "?" for character in " ".join(str(error).split()))
    if code == sqlite3.SQLITE_BUSY:
        return StoreError("another sidecar holds this file", "Stop it, or give each sidecar a file of its own")
    if code in _NOT_WRITABLE or isinstance(error, OSError):
        return StoreError(cause, "Use a file that this user can write, or an empty value to keep totals in memory")
    return StoreError(f"damaged: {cause}", "Restore it from a backup, or move it away to start from zero")
