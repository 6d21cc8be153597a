"""The ledger: totals, and the next expected sequence number of each session.

Delivery follows MoldUDP64 and the FIX session layer. A tracked trade counts only if its ``seq`` is the expected one, so
it counts exactly once, no matter how often and in which order it arrives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from metrics_sidecar.histogram import Histogram
from metrics_sidecar.messages import REASONS, SIDES, GapFill, Message, Reason, Rejected, Side, Trade
from metrics_sidecar.recent import Recent
from metrics_sidecar.tallies import MAX_SYMBOLS, OTHER, Series, Tallies


@dataclass(frozen=True, slots=True)
class Totals:
    """A consistent set of totals.

    Attributes:
        series: by side and symbol; the symbol is "" for trades without one. Each symbol has both sides.
        last_trade_ts: ``ts`` of the trade counted last, in Unix seconds; 0 before the first.
        tracked: number of tracked trades counted.
        lost: number of tracked trades declared lost.
    """

    series: dict[tuple[Side, str], Series] = field(default_factory=lambda: {(side, ""): Series(0.0) for side in SIDES})
    last_trade_ts: float = 0.0
    tracked: int = 0
    lost: int = 0

    @property
    def created(self) -> float:
        """Creation time of the state, in Unix seconds; 0 if unknown. A symbol's series have their own."""
        return self.series["buy", ""].created

    @property
    def symbols(self) -> int:
        """Number of symbols with series of their own."""
        return len({symbol for _, symbol in self.series} - {"", OTHER})


class Ledger:
    """Applies messages to totals and session cursors.

    Args:
        totals: initial totals. Default: zeros.
        next_seq: initial cursors. Default: none.
        max_symbols: number of symbols that get series of their own. Symbols in ``totals`` always keep theirs.

    Attributes:
        next_seq: maps each session to its cursor, the next expected sequence number.
        dirty_sessions: sessions whose cursor has moved since the last commit.
        received: number of messages applied, valid or not. Like the following counts it starts at 0.
        rejected: number of rejected messages by reason.
        duplicates: number of tracked trades that were already counted, or counted as lost.
        out_of_sequence: number of tracked trades that arrived before their turn.
        recent: the most recently counted trades.
        delivery: time from ``ts`` to receipt of the trades counted.
    """

    def __init__(
        self, totals: Totals | None = None, next_seq: dict[str, int] | None = None, *, max_symbols: int = MAX_SYMBOLS
    ) -> None:
        totals = totals or Totals()
        self._tallies = Tallies(totals.series, max_symbols)
        self._last_trade_ts = totals.last_trade_ts
        self._tracked = totals.tracked
        self._lost = totals.lost
        self.next_seq = next_seq or {}
        self.dirty_sessions: set[str] = set()
        self.received = 0
        self.rejected: dict[Reason, int] = dict.fromkeys(REASONS, 0)
        self.duplicates = 0
        self.out_of_sequence = 0
        self.recent = Recent()
        self.delivery = Histogram(
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0
        )

    def totals(self) -> Totals:
        """A copy of the totals."""
        return Totals(self._tallies.series(), self._last_trade_ts, self._tracked, self._lost)

    def apply(self, messages: Sequence[Message], received_at: float) -> list[GapFill | Rejected]:
        """Apply messages in order. ``received_at`` is in Unix seconds.

        Returns the messages to log: rejections, and gap fills that declare trades lost.
        """
        counted: list[Trade] = []
        to_log: list[GapFill | Rejected] = []
        moved: dict[str, int] = {}
        next_seq = self.next_seq
        untracked = 0
        for message in messages:
            session = message.session
            expected = moved.get(session) or next_seq.get(session, 1)
            if type(message) is not Trade:
                if skipped := self._skip(message, expected):
                    moved[session] = expected + skipped
                if skipped or type(message) is Rejected:
                    to_log.append(message)
            elif message.seq == expected:
                moved[session] = expected + 1
                counted.append(message)
            elif not message.seq:
                untracked += 1
                counted.append(message)
            elif message.seq < expected:
                self.duplicates += 1
            else:
                self.out_of_sequence += 1
        next_seq.update(moved)
        self.dirty_sessions.update(moved)
        self.received += len(messages)
        self._tracked += len(counted) - untracked
        if counted:
            self._count(counted, received_at)
        return to_log

    def _skip(self, message: GapFill | Rejected, expected: int) -> int:
        """Count a gap fill or a rejection. Returns the number of trades it declares lost, by which the cursor moves."""
        if type(message) is GapFill:
            skipped = max(0, message.new_seq - expected)
        else:
            self.rejected[message.reason] += 1
            skipped = int(message.seq == expected)
        self._lost += skipped
        return skipped

    def _count(self, trades: Sequence[Trade], received_at: float) -> None:
        self._tallies.count(trades, received_at)
        self.recent.add(trades, received_at)
        self._last_trade_ts = trades[-1].ts
        delays = [received_at - trade.ts for trade in trades]
        # The publisher's clock may run ahead of this one.
        if min(delays) < 0:
            delays = [max(0.0, delay) for delay in delays]
        self.delivery.observe(delays)
