"""The numbers that a publisher reports about itself."""

from typing import NamedTuple


class Counts(NamedTuple):
    """A snapshot of a journal. ``published``, ``lost`` and ``pending`` are numbers of trades.

    ``published`` and ``lost`` are what this process has published and dropped since ``created``, in Unix seconds.
    ``lost`` and ``pending`` include trades that earlier processes left. ``bytes`` is the journal's size in memory or on
    disk.
    """

    published: int
    lost: int
    pending: int
    bytes: int
    created: float
