"""How fast trades are counted, from the first one sent until the metrics show all of them."""

import time
from contextlib import ExitStack
from pathlib import Path

from plan import Plan
from programs import (
    Child,
    Start,
    Usage,
    bare_receiver,
    collectd_receiver,
    sidecar_receiver,
    tutorial_receiver,
)
from results import Column, Table

COLUMNS = (
    Column("trades a second", ""),
    Column("lost", "%", 100, 1),
    Column("processor time a million", "s", 1, 2),
    Column("peak memory", "MB", 1e-6, 0),
)
CONTESTANTS: dict[str, tuple[Start, dict[str, str]]] = {
    "side-car": (sidecar_receiver, {"prepared": "push", "published": "publish"}),
    "bare loop": (bare_receiver, {"prepared": "push", "published": "publish-at-nobody"}),
    "tutorial": (tutorial_receiver, {"prepared": "push"}),
    "collectd, statsd": (collectd_receiver, {"prepared": "statsd"}),
}
TABLES = {
    (load, senders): Table(
        f"The side-car: {title} from {senders} process{'es' * (senders > 1)}", "bare loop", COLUMNS, tuple(CONTESTANTS)
    )
    for load, title in (("prepared", "messages made before"), ("published", "real publishers,"))
    for senders in (1, 4)
}


def measure(load: str, senders: int, name: str, folder: Path, plan: Plan) -> None:
    start, kinds = CONTESTANTS[name]
    share = (plan.slow_trades if name == "tutorial" else plan.trades) // senders
    with ExitStack() as stack:
        receiver = stack.enter_context(start(folder, share * senders))
        usage = Usage(receiver.pid)
        sessions = [receiver.url if kinds[load] == "publish" else f"s{number}" for number in range(senders)]
        children = [
            stack.enter_context(Child("load.py", kinds[load], receiver.address, session, share)) for session in sessions
        ]
        for child in children:
            child.read()
        started = time.perf_counter()
        for child in children:
            child.go()
        shown, seen_at = receiver.wait(share * senders)
        TABLES[load, senders].add(
            name,
            **{
                "trades a second": shown / (seen_at - started),
                "lost": 1 - shown / (share * senders),
                "processor time a million": usage.processor_seconds / max(shown, 1) * 1e6,
                "peak memory": usage.peak_bytes,
            },
        )
