"""Fetches the committed cursor of a session from the sidecar."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trading_app.client import HttpClient
from trading_app.messages import MAX_SEQ
from trading_app.unreachable import Unreachable


class Cursor(Struct, frozen=True):
    """All trades below ``next_seq`` are committed. ``state_id`` identifies the sidecar's state file."""

    next_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ + 1)]
    state_id: str


class CursorClient:
    """Fetches cursors from the sidecar at ``url``. For use by one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)

    def ask(self, session: str) -> Cursor:
        """Return the committed cursor of a session.

        Raises:
            Unreachable: the sidecar did not answer with a cursor.
        """
        body = self._client.get(f"/sessions/{session}")
        try:
            return msgspec.json.decode(body, type=Cursor)
        # A deeply nested answer exceeds Python's recursion limit.
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unreachable(f"the answer is not a cursor: {error}") from error

    def close(self) -> None:
        self._client.close()
