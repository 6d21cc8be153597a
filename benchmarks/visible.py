"""From the call of publish() until the trade stands in /metrics, while others trade too."""

import random
import time
from pathlib import Path

from plan import Plan
from programs import Child, Scraper, port_of, sidecar
from results import Column, Table, percentile

from trading_app.publisher import TradePublisher

RATES = 100, 1_000, 10_000
TABLE = Table(
    "Click to visible",
    "one scrape",
    (Column("p50", "ms", 1e3, 2), Column("p99", "ms", 1e3, 2), Column("p99.9", "ms", 1e3, 2)),
    ("one scrape", *(f"{rate:,} trades a second" for rate in RATES)),
)


def measure(rate: int, folder: Path, plan: Plan) -> None:
    rng = random.Random(rate)
    with (
        sidecar(folder) as program,
        TradePublisher(program.address, sidecar_url=program.url) as publisher,
        Child("load.py", "steady", program.address, program.url, rate) as background,
    ):
        background.read()
        scraper = Scraper(port_of(program.url))
        publisher.publish("buy")  # connects
        assert publisher.flush()
        times = []
        for number in range(2, plan.probes + 2):
            time.sleep(rng.uniform(0, 0.005))
            started = time.perf_counter()
            publisher.publish("buy")
            while scraper.total(b'trades_total{side="buy"}') < number:
                continue
            times.append(time.perf_counter() - started)
        scrapes = [scraper.time() for _ in range(plan.probes)]
    for row, values in ((f"{rate:,} trades a second", times), ("one scrape", scrapes)):
        # Of the scrape, what it takes at the highest rate: the others are measured to be the same.
        if row != "one scrape" or rate == RATES[-1]:
            TABLE.add(row, **{column.name: percentile(values, float(column.name[1:])) for column in TABLE.columns})
