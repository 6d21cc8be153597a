"""A web service that counts one trade per POST, and accepts the requests of an OpenTelemetry exporter."""

import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from prometheus_client import Counter
from pydantic import BaseModel

TRADES = Counter("trades", "Trades counted.", ["side"])
VOLUME = Counter("volume", "Units traded.", ["side"])
app = FastAPI()


class Trade(BaseModel):
    side: str
    qty: float
    ts: float


@app.post("/trade")
async def trade(trade: Trade) -> None:
    TRADES.labels(trade.side).inc()
    VOLUME.labels(trade.side).inc(trade.qty)


@app.post("/v1/metrics")
async def metrics(request: Request) -> Response:
    await request.body()
    return Response(media_type="application/x-protobuf")


@app.get("/metrics")
async def up() -> None:
    """Answer, to show that the service is up."""


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
