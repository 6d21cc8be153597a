"""A program that sells at a steady rate: ``pace.py ADDRESS URL RATE COUNT MODE FILE``.

In ``MODE`` "sleeps" its thread sleeps between two trades, in "spins" it never does; a number is the interpreter's
switch interval for a thread that never sleeps. It writes the time of each call to the file, as doubles.
"""

import sys
import time
from array import array
from pathlib import Path

from trading_app.publisher import TradePublisher


def sell(publisher: TradePublisher, rate: int, count: int, *, sleep: bool) -> "array[float]":
    """Publish, and return when each call began."""
    clock = time.perf_counter
    times = array("d")
    started = clock()
    for number in range(count):
        while (ahead := started + number / rate - clock()) > 0:
            if sleep:
                time.sleep(ahead)
        times.append(clock())
        publisher.publish("sell")
    return times


if __name__ == "__main__":
    _, address, url, rate, count, mode, file = sys.argv
    if mode not in {"sleeps", "spins"}:
        sys.setswitchinterval(float(mode))
    with TradePublisher(address, sidecar_url=url) as publisher:
        publisher.publish("buy")
        assert publisher.flush(30)
        print("ready", flush=True)
        sys.stdin.readline()
        times = sell(publisher, int(rate), int(count), sleep=mode == "sleeps")
        assert publisher.flush(30)
    Path(file).write_bytes(times.tobytes())
    print("written", flush=True)
