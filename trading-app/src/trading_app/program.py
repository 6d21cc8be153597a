"""What page and API have in common as programs."""

import argparse
from dataclasses import dataclass

from trading_app import reloader, server
from trading_app.outbox import OutboxError, open_outbox
from trading_app.settings import SettingError, Settings, require_free


@dataclass(frozen=True)
class Program:
    """A command that serves HTTP.

    Attributes:
        name: of the command.
        factory: the import string of what makes the app.
        port: by default.
        outbox: the name of its journal.
        description: for ``--help``.
    """

    name: str
    factory: str
    port: int
    outbox: str
    description: str

    def run(self) -> None:
        """Read options and settings, and serve. A bad setting ends the program with one line."""
        parser = argparse.ArgumentParser(prog=self.name, description=self.description)
        parser.add_argument("--reload", action="store_true", help="restart when a source file changes")
        arguments = parser.parse_args()
        try:
            settings = Settings.from_environ(port=self.port)
            require_free(settings.host, settings.port)
            open_outbox(settings.outbox, self.outbox).close()
        except (SettingError, OutboxError) as error:
            raise SystemExit(f"{self.name}: {error}") from None
        run = reloader.run if arguments.reload else server.run
        run(self.factory, settings.host, settings.port)
