from collections.abc import Iterator

import hypothesis
import pytest
import zmq
from app_process import Pull

# How long an example takes says something about the machine, not about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture
def absent() -> Iterator[Pull]:
    """A side-car's socket that is not there yet."""
    with zmq.Context() as context:
        pull = Pull(context)
        yield pull
        pull.close()


@pytest.fixture
def pull(absent: Pull) -> Pull:
    """A side-car's socket that is there."""
    absent.open()
    return absent
