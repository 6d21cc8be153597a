"""How much of everything is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sizes of one round, in trades unless said otherwise."""

    rounds: int = 5
    calls: int = 10_000
    lone_calls: int = 1_000
    trades: int = 1_000_000
    slow_trades: int = 200_000
    probes: int = 3_000
    waiting: int = 1_000_000
    many: int = 10_000_000
    scrapes: int = 200


FULL = Plan()
QUICK = Plan(
    rounds=1,
    calls=3_000,
    lone_calls=300,
    trades=100_000,
    slow_trades=10_000,
    probes=150,
    waiting=100_000,
    many=200_000,
    scrapes=50,
)
