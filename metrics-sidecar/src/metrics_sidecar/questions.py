"""How other threads reach the engine's: they put a question, it answers when it comes by."""

import asyncio
import select
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from metrics_sidecar.store_error import StoreError

ANSWER_SECONDS = 1.0


class NoAnswer(Exception):
    """The engine does not answer. The message says why."""


class Questions:
    """A queue of callables. ``wake`` is readable when one has come, or after `wake_up`."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._waker, self.wake = socket.socketpair()
        self._waker.setblocking(False)
        self.wake.setblocking(False)

    async def ask[Answer](self, question: Callable[[], Answer]) -> Answer:
        """Have the question answered, without blocking the event loop.

        Raises:
            NoAnswer: it was not within `ANSWER_SECONDS`.
            StoreError: the question raised it.
        """
        answer: Future[Answer] = Future()
        self._queue.put((question, answer))
        self.wake_up()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), ANSWER_SECONDS)
        except TimeoutError:
            raise NoAnswer(f"the engine has not answered for {ANSWER_SECONDS:g} s") from None

    def wake_up(self) -> None:
        # Full: it is readable already. Closed: nobody waits any more.
        with suppress(OSError):
            self._waker.send(b"\0")

    def answer(self) -> None:
        """Answer all that have come, in the calling thread."""
        with suppress(BlockingIOError):
            self.wake.recv(4096)
        with suppress(Empty):
            while True:
                question, answer = self._queue.get_nowait()
                # Nobody waits any more for one that was cancelled.
                if answer.set_running_or_notify_cancel():
                    try:
                        answer.set_result(question())
                    except StoreError as error:
                        answer.set_exception(error)

    def wait(self, seconds: float) -> None:
        """Wait until ``wake`` is readable, at most so long."""
        select.select([self.wake], [], [], seconds)

    def close(self) -> None:
        self._waker.close()
        self.wake.close()
