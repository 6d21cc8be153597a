"""Ports for programs of several tests at the same time."""

import itertools
import random
import socket
from collections.abc import Iterator


def free_port() -> int:
    """A free port. No other process gets it from this function."""
    return next(_free_ports)


def _ports_of_this_process() -> Iterator[int]:
    """Ports below the kernel's range for outgoing connections. Holding the first port of a block reserves it."""
    with socket.socket() as first:
        while not _can_bind(first, start := random.randrange(20_000, 32_000, 100)):
            continue
        for port in itertools.cycle(range(start + 1, start + 100)):
            with socket.socket() as probe:
                free = _can_bind(probe, port)
            if free:
                yield port


def _can_bind(holder: socket.socket, port: int) -> bool:
    try:
        holder.bind(("", port))
    except OSError:
        return False
    return True


_free_ports = _ports_of_this_process()
