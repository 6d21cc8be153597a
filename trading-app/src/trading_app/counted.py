"""Fetches the trades that the sidecar counted last."""

import msgspec
from msgspec import Struct

from trading_app.client import HttpClient
from trading_app.messages import Side
from trading_app.unreachable import Unreachable


class CountedTrade(Struct, frozen=True, gc=False):
    """A trade of any publisher, and the time at which the sidecar received it.

    ``qty`` is in units, ``price`` per unit, ``ts`` and ``received_at`` in Unix seconds. Fields that the trade did not
    carry are None.
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
        """The session and the sequence number, which together identify a tracked trade."""
        return self.session, self.seq


_decode = msgspec.json.Decoder(list[CountedTrade]).decode


class CountedTradesClient:
    """Fetches counted trades from the sidecar at ``url``. For use by one thread.

    Raises:
        ValueError: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)

    def ask(self, limit: int) -> list[CountedTrade]:
        """Return up to ``limit`` trades, newest first. The sidecar holds 1,000.

        Raises:
            Unreachable: the sidecar did not answer with a list of trades.
        """
        text = self._client.get(f"/trades?limit={limit}")
        try:
            return _decode(text)
        # A deeply nested answer exceeds Python's recursion limit.
        except (msgspec.MsgspecError, RecursionError) as error:
            raise Unreachable(f"the answer is not a list of trades: {error}") from error

    def close(self) -> None:
        self._client.close()
