"""A program that publishes seeded trades and records how many, so that it can be killed at any time."""

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trading_app.messages import SIDES, Side
from trading_app.outbox import Outbox
from trading_app.outbox_error import OutboxError
from trading_app.publisher import TradePublisher
from trading_app.segment import Segment

RECORD = struct.Struct("q")


def orders(seed: str) -> Iterator[tuple[Side, float]]:
    """Endless orders. Quantities are multiples of 1/64, so that their sums are exact."""
    rng = random.Random(seed)
    while True:
        yield rng.choice(SIDES), rng.randint(1, 640) / 64


@dataclass
class Task:
    """What to publish: ``count`` trades at ``rate`` a second. The records of the sessions go to the folder ``records``.

    ``segment_bytes`` is the size of a segment, 0 for the default. ``deaths`` is the probability of being killed each
    time a segment is made or deleted. ``curve`` is the folder of the keys, empty for no encryption.
    """

    address: str
    url: str
    outbox: str
    records: str
    seed: str
    count: int
    rate: float
    segment_bytes: int = 0
    deaths: float = 0.0
    curve: str = ""


class DeadlyOutbox(Outbox):
    """An outbox whose process may be killed before and after each change of its files."""

    deaths = 0.0
    segment_bytes = 0

    def create(self, size: int) -> Segment:
        self._may_die()
        segment = super().create(min(size, self.segment_bytes or size))
        self._may_die()
        return segment

    def remove(self, segment: Segment) -> None:
        self._may_die()
        super().remove(segment)
        self._may_die()

    def _may_die(self) -> None:
        if random.random() < self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)


def publish(task: Task) -> None:
    """Publish, then wait until everything is committed.

    The record of a session is a file of its name: the number of calls of `publish` that have returned, then the seed.
    """
    # Decides when the outbox dies.
    random.seed(task.seed)
    outbox = DeadlyOutbox(Path(task.outbox))
    outbox.deaths, outbox.segment_bytes = task.deaths, task.segment_bytes
    publisher = TradePublisher(task.address, sidecar_url=task.url, outbox=outbox, curve=task.curve or None)
    record = Path(task.records) / publisher.session
    record.write_bytes(RECORD.pack(0) + task.seed.encode())
    with record.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        started = time.monotonic()
        for number, (side, qty) in enumerate(islice(orders(task.seed), task.count), 1):
            while not is_published(publisher, side, qty):
                time.sleep(0.05)
            RECORD.pack_into(memory, 0, number)
            ahead = started + number / task.rate - time.monotonic()
            if ahead > 0.001:
                time.sleep(ahead)
        while not publisher.flush(1.0):
            continue
        publisher.close()


def is_published(publisher: TradePublisher, side: Side, qty: float) -> bool:
    """Publish a trade; False if the disk is full."""
    try:
        publisher.publish(side, qty)
    except OutboxError as error:
        print(error, flush=True)
        return False
    return True


if __name__ == "__main__":
    publish(Task(**json.loads(sys.argv[1])))
