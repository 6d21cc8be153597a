"""What has been counted: totals, and for each session the sequence number expected next.

Delivery follows MoldUDP64 and the FIX session layer: a tracked trade counts only if its ``seq`` is the one expected,
so it counts once however often, and in whatever order, it arrives.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard, cast

from metrics_sidecar.histogram import Histogram
from metrics_sidecar.messages import SIDES, GapFill, Message, Side, Trade

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Totals:
    """One consistent set of totals. ``volume`` in units traded, ``last_trade_ts`` in Unix seconds, 0 before any."""

    trades: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))
    volume: dict[Side, float] = field(default_factory=lambda: dict.fromkeys(SIDES, 0.0))
    last_trade_ts: float = 0.0
    lost: int = 0


class Ledger:
    """Applies messages to totals and session cursors.

    ``next_seq`` maps a session to its cursor; ``moved`` holds the sessions whose cursor moved since the last commit.
    """

    def __init__(self, totals: Totals | None = None, next_seq: dict[str, int] | None = None) -> None:
        totals = totals or Totals()
        self._trades = dict(totals.trades)
        self._volume = dict(totals.volume)
        self._last_trade_ts = totals.last_trade_ts
        self._lost = totals.lost
        self.next_seq = next_seq or {}
        self.moved: set[str] = set()
        self.duplicates = 0
        self.out_of_sequence = 0
        self.delivery = Histogram(
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0
        )

    def totals(self) -> Totals:
        return Totals(dict(self._trades), dict(self._volume), self._last_trade_ts, self._lost)

    def apply(self, messages: Sequence[Message], received_at: float) -> None:
        """Apply messages received at ``received_at``, in Unix seconds, in their order."""
        runs: defaultdict[str, list[int]] = defaultdict(list)
        for message in messages:
            runs[message.session].append(message.seq)
        runs.pop("", None)
        if self._are_next(runs):
            # A gap fill has no number, so all are trades.
            counted = cast("Sequence[Trade]", messages)
            self.next_seq.update((session, seqs[-1] + 1) for session, seqs in runs.items())
            self.moved.update(runs)
        else:
            counted = [message for message in messages if self._admit(message)]
        if counted:
            self._count(counted, received_at)

    def _are_next(self, runs: Mapping[str, list[int]]) -> bool:
        """Whether the numbers of each session are those expected next, without a gap."""
        for session, seqs in runs.items():
            expected = self.next_seq.get(session, 1)
            if seqs != list(range(expected, expected + len(seqs))):
                return False
        return True

    def _admit(self, message: Message) -> TypeGuard[Trade]:
        """Move the cursor by one message; tell whether that is a trade which counts."""
        if isinstance(message, GapFill):
            self._fill_gap(message)
            return False
        session, seq = message.session, message.seq
        expected = self.next_seq.get(session, 1)
        if seq == expected:
            self.next_seq[session] = seq + 1
            self.moved.add(session)
        elif seq > expected:
            self.out_of_sequence += 1
        elif seq:
            self.duplicates += 1
        return seq in {0, expected}

    def _count(self, trades: Sequence[Trade], received_at: float) -> None:
        quantities: dict[Side, list[float]] = {side: [] for side in SIDES}
        for trade in trades:
            quantities[trade.side].append(trade.qty)
        for side in SIDES:
            self._trades[side] += len(quantities[side])
            self._volume[side] += sum(quantities[side])
        self._last_trade_ts = trades[-1].ts
        delays = [received_at - trade.ts for trade in trades]
        # Two clocks may disagree by more than the trade took.
        if min(delays) < 0:
            delays = [max(0.0, delay) for delay in delays]
        self.delivery.observe(delays)

    def _fill_gap(self, gap: GapFill) -> None:
        missing = gap.new_seq - self.next_seq.get(gap.session, 1)
        if missing > 0:
            log.warning(
                "session %s: %d trades are gone for good, those before seq %d", gap.session, missing, gap.new_seq
            )
            self._lost += missing
            self.next_seq[gap.session] = gap.new_seq
            self.moved.add(gap.session)
