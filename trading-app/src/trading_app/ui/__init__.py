"""The trading page, and the program that serves it."""

import argparse
import json
import os
import sys
from pathlib import Path

from trading_app.outbox import OutboxError, open_outbox
from trading_app.settings import SettingError, Settings, require_free

# Those of the dashboards: Grafana's green, red and blue, as it draws them in its own light and dark theme.
_COLOURS = {
    "light": ("#56A64B", "#E02F44", "#3274D9"),
    "dark": ("#73BF69", "#F2495C", "#5794F2"),
}


def main() -> None:
    """The command ``trading-app``: becomes a Streamlit server that reloads the page when a source file changes."""
    argparse.ArgumentParser(
        description="Serve the trading page. Settings come from the environment:"
        " WEBAPP_ZMQ_ADDR, WEBAPP_SIDECAR_URL, WEBAPP_OUTBOX, HOST, PORT."
    ).parse_args()
    try:
        settings = Settings.from_environ(port=8501)
        require_free(settings.host, settings.port)
        open_outbox(settings.outbox, "ui").close()
    except (SettingError, OutboxError) as error:
        raise SystemExit(f"trading-app: {error}") from None
    folder = Path(__file__).parent
    options = {
        "server.address": settings.host,
        "server.port": str(settings.port),
        "server.headless": "true",
        "server.runOnSave": "true",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        # Looking through all that is loaded after each drawing costs more than the drawing; Python does it in its time.
        "runner.postScriptGC": "false",
        "theme.paddingTop": "3rem",
        "theme.headingFontSizes": '["1.75rem"]',
        "theme.metricValueFontSize": "1.75rem",
        **{f"theme.{base}.chartCategoricalColors": json.dumps(colours) for base, colours in _COLOURS.items()},
        **{f"theme.{base}.primaryColor": blue for base, (_, _, blue) in _COLOURS.items()},
    }
    command = [sys.executable, "-m", "streamlit", "run", str(folder / "page.py")]
    # Streamlit watches what lies on PYTHONPATH: with it, a change anywhere in the package reloads the page.
    path = os.pathsep.join(filter(None, [str(folder.parents[1]), os.environ.get("PYTHONPATH")]))
    sys.stdout.flush()
    os.execve(  # noqa: S606 - no shell is wanted
        sys.executable,
        [*command, *(f"--{key}={value}" for key, value in options.items())],
        {**os.environ, "PYTHONPATH": path},
    )
