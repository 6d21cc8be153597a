"""Questions that other threads put to the engine thread."""

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
    """The engine did not answer. The message says why."""


class Questions:
    """A queue of callables to run in the engine thread. The socket ``wake`` becomes readable when one is queued."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._waker, self.wake = socket.socketpair()
        self._waker.setblocking(False)
        self.wake.setblocking(False)

    async def ask[Answer](self, question: Callable[[], Answer]) -> Answer:
        """Queue a question and await its answer.

        Raises:
            NoAnswer: no answer within `ANSWER_SECONDS`.
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
        """Make ``wake`` readable."""
        # If the buffer is full, ``wake`` is readable already. If the socket is closed, nobody waits.
        with suppress(OSError):
            self._waker.send(b"\0")

    def answer(self) -> None:
        """Run all queued questions in the calling thread."""
        with suppress(BlockingIOError):
            self.wake.recv(4096)
        with suppress(Empty):
            while True:
                question, answer = self._queue.get_nowait()
                # Skip questions whose caller has stopped waiting.
                if answer.set_running_or_notify_cancel():
                    try:
                        answer.set_result(question())
                    except StoreError as error:
                        answer.set_exception(error)

    def wait(self, seconds: float) -> None:
        """Wait until ``wake`` is readable, at most ``seconds``."""
        select.select([self.wake], [], [], seconds)

    def close(self) -> None:
        self._waker.close()
        self.wake.close()
