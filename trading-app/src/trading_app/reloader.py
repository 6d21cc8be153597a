"""Hot reload, for development: restarts a program when a source file changes, or when it was killed."""

import logging
from pathlib import Path

from uvicorn.supervisors.statreload import StatReload

from trading_app.server import listen

log = logging.getLogger("uvicorn.error")


class Reloader(StatReload):
    """uvicorn's reloader, which by itself goes on holding the port of a process that was killed."""

    def should_restart(self) -> list[Path] | None:
        changed = super().should_restart()
        if not changed and (self.process.exitcode or 0) < 0:
            log.warning("process %s was killed, starting another", self.process.pid)
            self.restart()
        return changed


def run(factory: str, host: str, port: int) -> None:
    """Serve what ``factory``, an import string, makes, until a signal comes."""
    sources = [str(Path(__file__).parent)]
    server, listening = listen(factory, host, port, reload_dirs=sources)
    Reloader(server.config, server.run, [listening]).run()
