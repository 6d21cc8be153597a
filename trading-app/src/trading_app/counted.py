"""The trades that the sidecar has counted last, asked over HTTP."""

import msgspec
from msgspec import Struct

from trading_app.client import HttpClient
from trading_app.messages import Side
from trading_app.unreachable import Unreachable


class CountedTrade(Struct, frozen=True, gc=False):
    """A trade of any publisher, and when the sidecar received it.

    ``qty`` in units, ``price`` per unit, ``ts`` and ``received_at`` in Unix seconds. What it came without is None.
    """

    side: Side
    qty: float
    ts: float
    received_at: float
    symbol: str | None = None
    price: float | None = None
    session: str | None = None
    seq: int | None = None

    @property
    def number(self) -> tuple[str | None, int | None]:
        """Its session, and its number within it."""
        return self.session, self.seq


_decode = msgspec.json.Decoder(list[CountedTrade]).decode


class CountedTradesClient:
    """Asks the sidecar at ``url``, for one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)

    def ask(self, limit: int) -> list[CountedTrade]:
        """Up to ``limit`` trades, 1,000 at most, the newest first.

        Raises:
            Unreachable: it did not answer, or not as it should.
        """
        text = self._client.get(f"/trades?limit={limit}")
        try:
            return _decode(text)
        except msgspec.MsgspecError as error:
            raise Unreachable(f"it answers nonsense: {error}") from error

    def close(self) -> None:
        self._client.close()
