"""The status of trades, and the trades that a journal has dropped."""

from collections import deque
from typing import Literal

from trading_app.messages import Trade

type Status = Literal["waiting", "delivered", "lost"]


class Losses:
    """The trades that were dropped before they were known to be committed, and their number.

    Which trades these were is remembered for the last 10,000 runs of them, so that years of losses fit into memory.
    """

    def __init__(self) -> None:
        self.count = 0
        self._runs: deque[tuple[str, range]] = deque(maxlen=10_000)

    def add(self, session: str, seqs: range) -> None:
        self.count += len(seqs)
        if self._runs and (self._runs[-1][0], self._runs[-1][1].stop) == (session, seqs.start):
            seqs = range(self._runs.pop()[1].start, seqs.stop)
        self._runs.append((session, seqs))

    def __contains__(self, trade: Trade) -> bool:
        return any(session == trade.session and trade.seq in seqs for session, seqs in self._runs)
