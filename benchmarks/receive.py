"""The rate of counting trades, from the first one sent until the metrics show all of them."""

import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import receivers
from benchmarks.plan import Plan
from benchmarks.programs import Child, Usage
from benchmarks.receivers import Start
from benchmarks.results import Column, Table

# The start function of each contestant, and the program that sends to it.
CONTESTANTS: dict[str, tuple[Start, str]] = {
    "bare loop, single messages": (receivers.bare, "singles"),
    "sidecar, real publishers": (receivers.sidecar, "publish"),
    "sidecar, real publishers, CURVE": (receivers.sidecar_with_curve, "publish"),
    "sidecar, batches of 500": (receivers.sidecar, "batches"),
    "sidecar, batches of 500, 1 symbol": (receivers.sidecar, "batches-of-1-symbol"),
    "sidecar, batches of 500, 100 symbols": (receivers.sidecar, "batches-of-100-symbols"),
    "sidecar, single messages": (receivers.sidecar, "singles"),
    "asyncio tutorial, single messages": (receivers.tutorial, "singles"),
    "collectd, statsd": (receivers.collectd, "statsd"),
}
REFERENCE = next(iter(CONTESTANTS))
TABLES = {
    senders: Table(
        f"The sidecar's rate: trades from {senders} process{'es' * (senders > 1)}",
        REFERENCE,
        (
            Column("trades a second", "", compared=True),
            Column("lost", "trades"),
            Column("CPU per million trades", "s", 1, 2),
            Column("senders' CPU per million trades", "s", 1, 2),
            Column("peak memory", "MB", 1e-6, 0),
        ),
        tuple(CONTESTANTS),
    )
    for senders in (1, 4)
}


def measure(senders: int, name: str, folder: Path, plan: Plan) -> None:
    start, kind = CONTESTANTS[name]
    share = (plan.slow_trades if start is receivers.tutorial else plan.trades) // senders
    with ExitStack() as stack:
        receiver = stack.enter_context(start(folder, share * senders))
        usage = Usage(receiver.pid)
        children = [
            stack.enter_context(
                Child(
                    *("load.py", kind, f"--address={receiver.address}", f"--url={receiver.url}"),
                    *(f"--session=s{number}", f"--count={share}", *receiver.sender_options),
                )
            )
            for number in range(senders)
        ]
        for child in children:
            child.read()
        senders_usage = [Usage(child.pid) for child in children]
        started = time.perf_counter()
        for child in children:
            child.go()
        shown, seen_at = receiver.wait(share * senders)
        millions = max(shown, 1) / 1e6
        TABLES[senders].add(
            name,
            **{
                "trades a second": shown / (seen_at - started),
                "lost": share * senders - shown,
                "CPU per million trades": usage.processor_seconds / millions,
                "senders' CPU per million trades": sum(sender.processor_seconds for sender in senders_usage) / millions,
                "peak memory": usage.peak_bytes,
            },
        )
