"""Fixtures of the tests of trading-app."""

import signal
from collections.abc import Iterator

import hypothesis
import pytest
from app_process import FakeSidecar

# The duration of an example depends on the machine, not on the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
# Background jobs of a shell ignore SIGINT. Without a handler the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def absent() -> Iterator[FakeSidecar]:
    """A sidecar that is not running yet."""
    sidecar = FakeSidecar()
    yield sidecar
    sidecar.close()


@pytest.fixture(scope="module")
def shared_sidecar() -> Iterator[FakeSidecar]:
    """A running sidecar, shared by the tests of a module."""
    sidecar = FakeSidecar()
    sidecar.open()
    yield sidecar
    sidecar.close()


@pytest.fixture
def sidecar(absent: FakeSidecar) -> FakeSidecar:
    """A running sidecar."""
    absent.open()
    return absent
