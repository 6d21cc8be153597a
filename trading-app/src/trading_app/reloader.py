"""Hot reload: a process that starts anew when a source file changes, or when it was killed."""

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from uvicorn.supervisors.statreload import StatReload

log = logging.getLogger("uvicorn.error")

_SOURCES = [str(Path(__file__).parent)]


class Reloader(StatReload):
    """uvicorn's reloader, which by itself goes on holding the port of a process that was killed."""

    def should_restart(self) -> list[Path] | None:
        changed = super().should_restart()
        if not changed and (self.process.exitcode or 0) < 0:
            log.warning("process %s was killed, starting another", self.process.pid)
            self.restart()
        return changed


def run(app: str, host: str, port: int, *, access_log: bool) -> None:
    """Serve what the factory ``app`` makes, made anew for each process."""
    config = uvicorn.Config(
        app,
        factory=True,
        reload=True,
        reload_dirs=_SOURCES,
        host=host,
        port=port,
        access_log=access_log,
        timeout_graceful_shutdown=2,
    )
    Reloader(config, uvicorn.Server(config).run, [config.bind_socket()]).run()


def keep(serve: Callable[[list[socket.socket] | None], None]) -> None:
    """Run a server that binds for itself."""
    Reloader(uvicorn.Config("", reload=True, reload_dirs=_SOURCES), serve, []).run()
