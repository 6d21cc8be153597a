"""What has been counted: totals, and for each session the sequence number expected next.

Delivery follows MoldUDP64 and the FIX session layer: a tracked trade counts only if its ``seq`` is the one expected,
so it counts once however often, and in whatever order, it arrives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from metrics_sidecar.histogram import Histogram
from metrics_sidecar.messages import REASONS, SIDES, GapFill, Message, Reason, Rejected, Side, Trade


@dataclass(frozen=True, slots=True)
class Totals:
    """One consistent set of totals. ``volume`` in units traded, ``last_trade_ts`` in Unix seconds, 0 before any.

    ``tracked`` of the trades were tracked; ``lost`` tracked trades were not counted and will not be.
    """

    trades: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))
    volume: dict[Side, float] = field(default_factory=lambda: dict.fromkeys(SIDES, 0.0))
    last_trade_ts: float = 0.0
    tracked: int = 0
    lost: int = 0


class Ledger:
    """Applies messages to totals and session cursors.

    ``next_seq`` maps a session to its cursor, ``dirty_sessions`` holds those whose cursor moved since the last commit.
    The counters of messages start at 0 with each ledger.
    """

    def __init__(self, totals: Totals | None = None, next_seq: dict[str, int] | None = None) -> None:
        totals = totals or Totals()
        self._trades = dict(totals.trades)
        self._volume = dict(totals.volume)
        self._last_trade_ts = totals.last_trade_ts
        self._tracked = totals.tracked
        self._lost = totals.lost
        self.next_seq = next_seq or {}
        self.dirty_sessions: set[str] = set()
        self.received = 0
        self.rejected: dict[Reason, int] = dict.fromkeys(REASONS, 0)
        self.duplicates = 0
        self.out_of_sequence = 0
        self.delivery = Histogram(
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0
        )

    def totals(self) -> Totals:
        return Totals(dict(self._trades), dict(self._volume), self._last_trade_ts, self._tracked, self._lost)

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
        for side in SIDES:
            quantities = [trade.qty for trade in trades if trade.side == side]
            self._trades[side] += len(quantities)
            self._volume[side] += sum(quantities)
        self._last_trade_ts = trades[-1].ts
        delays = [received_at - trade.ts for trade in trades]
        # Two clocks may disagree by more than the trade took.
        if min(delays) < 0:
            delays = [max(0.0, delay) for delay in delays]
        self.delivery.observe(delays)
