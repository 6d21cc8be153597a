"""The sizes of the measurements."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The sizes of one round, in trades unless stated otherwise."""

    rounds: int = 3
    # For which the calls of one contestant are measured, for each length of bursts.
    call_seconds: float = 1.5
    trades: int = 1_000_000
    slow_trades: int = 100_000
    rates: tuple[int, ...] = (100, 1_000, 10_000)
    rate_seconds: float = 3.0
    waiting: int = 1_000_000
    many_waiting: int = 5_000_000
    sessions: tuple[int, ...] = (1, 1_000, 10_000)
    symbols: tuple[int, ...] = (0, 100, 1_000)
    many: int = 10_000_000
    scrapes: int = 200
    # Of each process that imports.
    starts: int = 15


FULL = Plan()
QUICK = Plan(
    rounds=1,
    call_seconds=0.1,
    trades=50_000,
    slow_trades=5_000,
    rates=(10_000,),
    rate_seconds=0.5,
    waiting=100_000,
    many_waiting=200_000,
    sessions=(1, 10_000),
    symbols=(0, 100),
    many=200_000,
    scrapes=30,
    starts=3,
)
