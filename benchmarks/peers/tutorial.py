"""The sidecar's task as tutorials solve it: asyncio, one model per message, labelled counters."""

import asyncio
import sys
import time
from typing import Literal

import zmq
import zmq.asyncio
from prometheus_client import Counter, Gauge, Histogram, start_http_server
from pydantic import BaseModel, Field

TRADES = Counter("trades", "Trades counted.", ["side"])
VOLUME = Counter("volume", "Units traded.", ["side"])
LAST_TRADE = Gauge("last_trade_ts_seconds", "Time of the last trade.")
DELIVERY = Histogram("trade_delivery_seconds", "From a trade's ts to its receipt.")


class Trade(BaseModel):
    type: Literal["trade"]
    side: Literal["buy", "sell"]
    qty: float = Field(ge=0)
    ts: float
    session: str
    seq: int


async def main(address: str, port: int) -> None:
    start_http_server(port, "127.0.0.1")
    pull = zmq.asyncio.Context.instance().socket(zmq.PULL)
    pull.bind(address)
    print("ready", flush=True)
    while True:
        trade = Trade.model_validate_json(await pull.recv())
        TRADES.labels(side=trade.side).inc()
        VOLUME.labels(side=trade.side).inc(trade.qty)
        LAST_TRADE.set(trade.ts)
        DELIVERY.observe(time.time() - trade.ts)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
