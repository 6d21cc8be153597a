"""The numbers that a publisher tells about itself."""

from typing import NamedTuple


class Counts(NamedTuple):
    """What a journal has taken and holds at one instant. All but ``bytes`` and ``created`` are numbers of trades.

    ``published`` and ``lost`` count from ``created``, in Unix seconds: this process alone. ``pending`` includes what
    earlier processes have left. ``bytes`` is what the journal takes in memory or on disk.
    """

    published: int
    lost: int
    pending: int
    bytes: int
    created: float
