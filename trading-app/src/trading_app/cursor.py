"""The sidecar's cursor of a session, asked over HTTP."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trading_app.client import HttpClient
from trading_app.messages import MAX_SEQ
from trading_app.unreachable import Unreachable


class Cursor(Struct, frozen=True):
    """``next_seq`` is the trade expected next: all below are committed, in the state file that ``state_id`` names."""

    next_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ + 1)]
    state_id: str


class CursorClient:
    """Asks the sidecar at ``url``, for one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)

    def ask(self, session: str) -> Cursor:
        """The committed cursor of a session.

        Raises:
            Unreachable: the sidecar did not answer, or not with a cursor.
        """
        body = self._client.get(f"/sessions/{session}")
        try:
            return msgspec.json.decode(body, type=Cursor)
        except msgspec.DecodeError as error:
            raise Unreachable(f"it does not answer with a cursor: {error}") from error

    def close(self) -> None:
        self._client.close()
