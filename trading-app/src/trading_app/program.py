"""The command line that page and API share."""

import argparse
from dataclasses import dataclass

from trading_app import reloader, server
from trading_app.outbox import open_outbox
from trading_app.outbox_error import OutboxError
from trading_app.settings import SettingError, Settings, require_free


@dataclass(frozen=True)
class Program:
    """A command that serves HTTP.

    Attributes:
        name: the name of the command.
        factory: the import string of the function that creates the app.
        port: the default port.
        outbox: the name of its folder in the outbox.
        description: the description in ``--help``.
    """

    name: str
    factory: str
    port: int
    outbox: str
    description: str

    def run(self) -> None:
        """Read options and settings, and serve. An invalid setting ends the program with one line."""
        parser = argparse.ArgumentParser(prog=self.name, description=self.description)
        parser.add_argument("--reload", action="store_true", help="restart when a source file changes")
        arguments = parser.parse_args()
        server.configure_logging()
        try:
            settings = Settings.from_environ(port=self.port)
            require_free(settings.host, settings.port)
            open_outbox(settings.outbox, self.outbox).close()
        except (SettingError, OutboxError) as error:
            raise SystemExit(f"{self.name}: {error}") from None
        run = reloader.run if arguments.reload else server.run
        run(self.factory, settings.host, settings.port)
