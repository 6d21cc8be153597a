"""What has been counted: totals, and for each session the sequence number expected next.

Delivery follows MoldUDP64 and the FIX session layer: a tracked trade counts only if its ``seq`` is the one expected,
so it counts once however often, and in whatever order, it arrives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from metrics_sidecar.histogram import Histogram
from metrics_sidecar.messages import REASONS, SIDES, GapFill, Message, Reason, Rejected, Side, Trade
from metrics_sidecar.recent import Recent
from metrics_sidecar.tallies import MAX_SYMBOLS, OTHER, Series, Tallies


@dataclass(frozen=True, slots=True)
class Totals:
    """One consistent set of totals. ``last_trade_ts`` in Unix seconds, 0 before any.

    ``series`` are by side and symbol, which is "" for trades without one; both sides are there of each symbol.
    ``tracked`` of the trades were tracked; ``lost`` tracked trades were not counted and will not be.
    """

    series: dict[tuple[Side, str], Series] = field(default_factory=lambda: {(side, ""): Series(0.0) for side in SIDES})
    last_trade_ts: float = 0.0
    tracked: int = 0
    lost: int = 0

    @property
    def created(self) -> float:
        """Since when everything but the symbols' own series is counted, in Unix seconds; 0 where that is not known."""
        return self.series["buy", ""].created

    @property
    def symbols(self) -> int:
        """How many have series of their own."""
        return len({symbol for _, symbol in self.series} - {"", OTHER})


class Ledger:
    """Applies messages to totals and session cursors.

    ``next_seq`` maps a session to its cursor, ``dirty_sessions`` holds those whose cursor moved since the last commit.
    The counters of messages start at 0 with each ledger, and ``recent`` is empty.

    Args:
        totals: to begin with, zeros by default.
        next_seq: the cursors to begin with.
        max_symbols: how many symbols get series of their own; those that ``totals`` has keep theirs.
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
        return Totals(self._tallies.series(), self._last_trade_ts, self._tracked, self._lost)

    def apply(self, messages: Sequence[Message], received_at: float) -> list[GapFill | Rejected]:
        """Apply messages received at ``received_at``, in Unix seconds, in their order.

        Returns those worth a line in the log: rejections, and gap fills that declare trades lost.
        """
        counted: list[Trade] = []
        notable: list[GapFill | Rejected] = []
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
                    notable.append(message)
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
        return notable

    def _skip(self, message: GapFill | Rejected, expected: int) -> int:
        """Count a message that is no trade. How far it moves the cursor: over trades that are lost."""
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
        # Two clocks may disagree by more than the trade took.
        if min(delays) < 0:
            delays = [max(0.0, delay) for delay in delays]
        self.delivery.observe(delays)
