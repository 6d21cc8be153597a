"""A program that publishes seeded trades, and leaves a record of how many; it is made to be killed."""

import json
import mmap
import random
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trading_app.messages import SIDES, Side
from trading_app.outbox import FileOutbox
from trading_app.publisher import TradePublisher

RECORD = struct.Struct("q")


def orders(seed: str) -> Iterator[tuple[Side, float]]:
    """Endless orders; quantities are multiples of 1/64, so that sums of them are exact."""
    rng = random.Random(seed)
    while True:
        yield rng.choice(SIDES), rng.randint(1, 640) / 64


@dataclass
class Task:
    """What to publish where: ``count`` trades at ``rate`` a second. The record of each session goes to ``records``."""

    address: str
    url: str
    outbox: str
    records: str
    seed: str
    count: int
    rate: float


def publish(task: Task) -> None:
    """Publish, then wait until everything is committed.

    The record of a session is a file of its name: the number of calls of `publish` that have returned, then the seed.
    """
    outbox = FileOutbox(Path(task.outbox))
    record = Path(task.records) / outbox.sessions[-1].name
    record.write_bytes(RECORD.pack(0) + task.seed.encode())
    with record.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        publisher = TradePublisher(task.address, sidecar_url=task.url, outbox=outbox)
        started = time.monotonic()
        for number, (side, qty) in enumerate(islice(orders(task.seed), task.count), 1):
            publisher.publish(side, qty)
            RECORD.pack_into(memory, 0, number)
            ahead = started + number / task.rate - time.monotonic()
            if ahead > 0.001:
                time.sleep(ahead)
        while not publisher.flush(1.0):
            continue
        publisher.close()


if __name__ == "__main__":
    publish(Task(**json.loads(sys.argv[1])))
