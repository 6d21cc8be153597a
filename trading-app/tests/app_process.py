"""The real programs, run as processes, and what they need around them."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import zmq


def eventually[Answer](answer: Callable[[], Answer], timeout: float = 20.0) -> Answer:
    """The first true answer; the last one if none comes in time."""
    deadline = time.monotonic() + timeout
    while not (last := answer()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return last


def free_port() -> int:
    """A port that nobody holds, below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port


def program(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"from trading_app.{module} import main; main()", *arguments]


def run(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        program(module, *arguments),
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class _StayHere(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def request(url: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body, redirects not followed; status 0 while nobody answers."""
    try:
        with build_opener(_StayHere).open(Request(url, body, headers), timeout=10) as response:
            return response.status, dict(response.headers), response.read().decode()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()
    except OSError:
        return 0, {}, ""


class Pull:
    """The side-car's socket, which comes and goes as a side-car does."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._context = context
        self._socket: zmq.Socket[bytes] | None = None
        self.address = f"tcp://127.0.0.1:{free_port()}"

    def open(self) -> None:
        self._socket = self._context.socket(zmq.PULL)
        self._socket.bind(self.address)

    def close(self) -> None:
        if self._socket:
            self._socket.close(linger=0)

    def receive(self, timeout: float = 10.0) -> dict[str, Any]:
        """The next message.

        Raises:
            TimeoutError: none came within ``timeout`` seconds.
        """
        assert self._socket
        if not self._socket.poll(round(timeout * 1000)):
            raise TimeoutError
        (frame,) = self._socket.recv_multipart()
        message: dict[str, Any] = json.loads(frame)
        return message

    def is_silent(self) -> bool:
        """Nothing comes for a while. A pause is all that can show it."""
        assert self._socket
        return not self._socket.poll(200)
