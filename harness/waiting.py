"""Waiting for a condition."""

import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.request import urlopen


def eventually[Answer](answer: Callable[[], Answer], timeout: float = 60.0) -> Answer:
    """Call ``answer`` until it returns something true, and return that; after ``timeout``, return its last answer."""
    deadline = time.monotonic() + timeout
    pause = 0.01
    while not (last := answer()) and time.monotonic() < deadline:
        time.sleep(pause)
        # Polling takes processor time from other tests.
        pause = min(1.5 * pause, 0.2)
    return last


def get(url: str) -> str:
    """The body of the response, or an empty string while nobody answers or the status is 503.

    Raises:
        HTTPError: the status is another error.
    """
    try:
        with urlopen(url, timeout=10) as response:
            body: str = response.read().decode()
            return body
    except HTTPError as error:
        with error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            return ""
    except OSError:
        return ""
