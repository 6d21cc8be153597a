"""From the call of publish() until the trade stands in /metrics, while others trade too."""

import random
import time
from pathlib import Path

from plan import Plan
from programs import Child, Scraper, port_of, sidecar
from results import Column, Table, percentile

from trading_app.publisher import TradePublisher

# The probes buy, everyone else sells.
PROBES, OTHERS = b'trades_total{side="buy"}', b'trades_total{side="sell"}'
RATES = 100, 1_000, 10_000
TABLE = Table(
    "Click to visible",
    "100 trades a second",
    (
        Column("p50", "ms", 1e3, 2),
        Column("p99", "ms", 1e3, 2),
        Column("p99.9", "ms", 1e3, 2),
        Column("one scrape", "ms", 1e3, 2),
        Column("its p99", "ms", 1e3, 2),
        Column("trades a second", ""),
    ),
    tuple(f"{rate:,} trades a second" for rate in RATES),
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
        began, others = time.perf_counter(), scraper.total(OTHERS)
        for number in range(2, plan.probes + 2):
            time.sleep(rng.uniform(0, 0.005))
            started = time.perf_counter()
            publisher.publish("buy")
            while scraper.total(PROBES) < number:
                continue
            times.append(time.perf_counter() - started)
        others = (scraper.total(OTHERS) - others) / (time.perf_counter() - began)
        scrapes = [scraper.time() for _ in range(plan.probes)]
    TABLE.add(
        f"{rate:,} trades a second",
        **{
            "p50": percentile(times, 50),
            "p99": percentile(times, 99),
            "p99.9": percentile(times, 99.9),
            "one scrape": percentile(scrapes, 50),
            "its p99": percentile(scrapes, 99),
            "trades a second": others,
        },
    )
