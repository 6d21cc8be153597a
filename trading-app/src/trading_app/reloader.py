"""Hot reload: a process that starts anew when a source file changes, or when it was killed."""

import logging
from pathlib import Path

from uvicorn.supervisors.statreload import StatReload

log = logging.getLogger("uvicorn.error")

SOURCES = [str(Path(__file__).parent)]


class Reloader(StatReload):
    """uvicorn's reloader, which by itself goes on holding the port of a process that was killed."""

    def should_restart(self) -> list[Path] | None:
        changed = super().should_restart()
        if not changed and (self.process.exitcode or 0) < 0:
            log.warning("process %s was killed, starting another", self.process.pid)
            self.restart()
        return changed
