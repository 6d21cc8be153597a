"""A real publisher that is a Prometheus target."""

from pathlib import Path

from prometheus_client import start_http_server

from harness.databases import Prometheus
from harness.sidecar import Sidecar
from trading_app.metrics import process_registry
from trading_app.publisher import TradePublisher


class Publishing:
    """A publisher of a sidecar, whose metrics are served at ``instance``."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.publisher = TradePublisher(sidecar.address, sidecar_url=sidecar.url)
        self._server, self._thread = start_http_server(0, "127.0.0.1", process_registry(self.publisher))
        self.instance = f"127.0.0.1:{self._server.server_port}"

    def publish(self, trades: int) -> None:
        for _ in range(trades):
            self.publisher.publish("buy", symbol="BTC-USD", price=100.0, qty=2.0)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.publisher.close(timeout=0)


def reconcile_seconds(prometheus: Prometheus, folder: Path) -> None:
    """Change the rules of the Prometheus in ``folder`` to reconcile the last seconds instead of minutes."""
    rules = folder / "rules/recording.yml"
    text = rules.read_text()
    for long, short in {"[5m5s]": "[14s]", "offset 5m5s": "offset 14s", "offset 5m": "offset 10s"}.items():
        assert long in text
        text = text.replace(long, short)
    rules.write_text(text)
    prometheus.reload()
