"""The trading page, and the program that serves it."""

import argparse
import json
import os
import socket
import sys
from pathlib import Path

from trading_app import reloader
from trading_app.outbox import OutboxError, open_outbox
from trading_app.settings import SettingError, Settings, require_free

# Those of the dashboards: Grafana's green, red and blue, as it draws them in its own light and dark theme.
_COLOURS = {
    "light": ("#56A64B", "#E02F44", "#3274D9"),
    "dark": ("#73BF69", "#F2495C", "#5794F2"),
}


def main() -> None:
    """The command ``trading-app``."""
    parser = argparse.ArgumentParser(
        description="Serve the trading page. Settings come from the environment: WEBAPP_ZMQ_ADDR, WEBAPP_SIDECAR_URL,"
        " WEBAPP_OUTBOX, WEBAPP_PROMETHEUS_URL, WEBAPP_GRAFANA_URL, HOST, PORT."
    )
    parser.add_argument("--reload", action="store_true", help="restart when a source file changes")
    arguments = parser.parse_args()
    try:
        settings = Settings.from_environ(port=8501)
        require_free(settings.host, settings.port)
        open_outbox(settings.outbox, "ui").close()
    except (SettingError, OutboxError) as error:
        raise SystemExit(f"trading-app: {error}") from None
    if arguments.reload:
        reloader.keep(serve)
    else:
        serve()


def serve(sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG001 - Streamlit binds for itself
    """Become a Streamlit server of the page."""
    settings = Settings.from_environ(port=8501)
    options = {
        "server.address": settings.host,
        "server.port": str(settings.port),
        "server.headless": "true",
        # Streamlit's own reload swaps modules under the pages that are being drawn.
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        # Looking through all that is loaded after each drawing costs more than the drawing; Python does it in its time.
        "runner.postScriptGC": "false",
        "theme.paddingTop": "3rem",
        "theme.headingFontSizes": '["1.75rem"]',
        "theme.metricValueFontSize": "1.5rem",
        **{f"theme.{base}.chartCategoricalColors": json.dumps(colours) for base, colours in _COLOURS.items()},
        **{f"theme.{base}.primaryColor": blue for base, (_, _, blue) in _COLOURS.items()},
    }
    command = [sys.executable, "-m", "streamlit", "run", str(Path(__file__).with_name("page.py"))]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *(f"--{key}={value}" for key, value in options.items())])  # noqa: S606 - no shell
