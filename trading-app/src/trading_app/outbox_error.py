"""The errors of an outbox, each with its cause and remedy."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class OutboxError(Exception):
    """An outbox cannot be used, or cannot store a trade. The message names the path, the cause and the remedy."""


class OutboxInUse(OutboxError):
    """Another publisher holds the outbox."""


@contextmanager
def outbox_errors(path: PathLike[str], size: int = 0) -> Iterator[None]:
    """Turn an OSError into an OutboxError about ``path``, where ``size`` bytes need room on the disk."""
    try:
        yield
    except OSError as error:
        raise OutboxError(f"{path}: {error.strerror}. {_remedy(error, size)}") from None


def _remedy(error: OSError, size: int) -> str:
    match error.errno:
        case errno.ENOSPC:
            return f"Make room for {size:,} bytes" if size else "Make room"
        case errno.EMFILE | errno.ENFILE:
            return "Raise the limit of open files (ulimit -n)"
        case _:
            return "Use a path that this user can write"
