"""A process, and its children."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self


class Program:
    """A process and its children, in a session of their own. It can be started and ended any number of times.

    A ``with`` block starts it, and kills it at the end. ``environ`` is its environment; ``folder`` is its working
    directory, or None for that of the caller. Its output goes to the file ``log``.
    """

    def __init__(self, log: Path, command: Sequence[str | Path]) -> None:
        self.command = command
        self.environ = dict(os.environ)
        self.folder: Path | None = None
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_until_up()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        """Wait until it can be used. Most programs need not be waited for."""

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.runs:
            os.killpg(self.pid, number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait until it ends by itself, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        assert self._process
        return self._process.wait(timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal, wait until it has ended, and return its exit status."""
        self.send(number)
        return self.wait()

    def end(self) -> None:
        """Kill what is left of it."""
        if self._process:
            kill_group(self.pid)
            self.wait()


def kill_group(group: int) -> None:
    """Kill the processes of a group that are left, if any."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def is_gone(group: int) -> bool:
    """No process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
