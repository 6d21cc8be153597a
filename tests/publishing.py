"""A real publisher as a Prometheus target."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from chaos import Sidecar
from stack import Prometheus

from trading_app.publisher import TradePublisher


class Publishing:
    """A publisher to the sidecar, and the metrics of it, served at ``instance``."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.telemetry = TradePublisher(sidecar.address, sidecar_url=sidecar.url)
        self.published = 0
        publishing = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(publishing._metrics().encode())

            def log_message(self, *_: object) -> None:
                """One line per scrape is too much."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.instance = f"127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def publish(self, trades: int) -> None:
        for _ in range(trades):
            self.telemetry.publish("buy", symbol="BTC-USD", price=100.0, qty=2.0)
        self.published += trades

    def _metrics(self) -> str:
        numbers = {
            "publisher_trades_total": self.published,
            "publisher_lost_trades_total": self.telemetry.lost,
            "publisher_pending_trades": self.telemetry.pending,
            "publisher_journal_bytes": 4096,
        }
        return "".join(f"{name} {number}\n" for name, number in numbers.items())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.telemetry.close(timeout=0)


def reconcile_seconds(prometheus: Prometheus, folder: Path) -> None:
    """Have the Prometheus in ``folder`` reconcile the last seconds, not minutes, of what was published and counted."""
    rules = folder / "rules/recording.yml"
    text = rules.read_text()
    for long, short in {"[5m5s]": "[14s]", "offset 5m5s": "offset 14s", "offset 5m": "offset 10s"}.items():
        assert long in text
        text = text.replace(long, short)
    rules.write_text(text)
    prometheus.reload()
