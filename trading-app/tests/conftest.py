import signal
from collections.abc import Iterator

import hypothesis
import pytest
from app_process import FakeSidecar

# How long an example takes says something about the machine, not about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
# A shell starts background jobs with Ctrl-C ignored, and the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def absent() -> Iterator[FakeSidecar]:
    """A sidecar that is not there yet."""
    sidecar = FakeSidecar()
    yield sidecar
    sidecar.close()


@pytest.fixture
def sidecar(absent: FakeSidecar) -> FakeSidecar:
    """A sidecar that is there."""
    absent.open()
    return absent
