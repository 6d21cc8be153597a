"""The sidecar's settings."""

from pathlib import Path

from metrics_sidecar.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_environ({})
    assert (settings.zmq_bind, settings.state) == ("tcp://0.0.0.0:5555", Path(".data/sidecar.sqlite3"))
    assert (settings.host, settings.port) == ("0.0.0.0", 8001)
    assert (settings.symbols, settings.curve, settings.allowed_hosts) == (100, None, frozenset())
