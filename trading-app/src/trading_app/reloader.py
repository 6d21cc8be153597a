"""Hot reload, for development: restarts the program when a source file changes or its process is killed."""

import logging
from pathlib import Path

from uvicorn.supervisors.statreload import StatReload

from trading_app.server import listen

log = logging.getLogger("uvicorn.error")


class Reloader(StatReload):
    """uvicorn's reloader, which also replaces a killed process. uvicorn's own would hold its port and serve nothing."""

    def should_restart(self) -> list[Path] | None:
        changed = super().should_restart()
        if not changed and (self.process.exitcode or 0) < 0:
            log.warning("process %s was killed: starting a new one", self.process.pid)
            self.restart()
        return changed


def run(factory: str, host: str, port: int) -> None:
    """Serve the app of ``factory``, an import string, until SIGINT or SIGTERM."""
    sources = [str(Path(__file__).parent)]
    server, listening = listen(factory, host, port, reload_dirs=sources)
    Reloader(server.config, server.run, [listening]).run()
