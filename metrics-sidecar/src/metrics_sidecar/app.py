"""The side-car's HTTP interface, and the program itself."""

import argparse
import gc
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Response
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from metrics_sidecar import server
from metrics_sidecar.exposition import SidecarCollector
from metrics_sidecar.guard import Guard
from metrics_sidecar.journal import Journal
from metrics_sidecar.messages import SESSION
from metrics_sidecar.receiver import Receiver, require_bindable
from metrics_sidecar.settings import SettingError, Settings, require_free
from metrics_sidecar.store import Store

_METRICS_CONTENT = {media: {"schema": {"type": "string"}} for media in ("text/plain", "application/openmetrics-text")}
LOG_FORMAT = "%(levelname)s:     %(message)s"


class Cursor(BaseModel):
    """A session's committed cursor."""

    session: str
    next_seq: int


def create_app(journal: Journal, receiver: Receiver) -> FastAPI:
    """The HTTP interface; the receiver runs while the app does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # What is loaded by now stays: a full collection would look at all of it, and nothing is received meanwhile.
        gc.collect()
        gc.freeze()
        receiver.start()
        try:
            yield
        finally:
            receiver.stop()
            journal.close()

    app = FastAPI(title="metrics-sidecar", lifespan=lifespan)
    app.add_middleware(Guard)
    registry = CollectorRegistry()
    registry.register(SidecarCollector(journal, receiver))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)

    # Without a thread for each answer: they wait for a batch or a commit in hand, milliseconds unless the disk hangs.
    @app.get("/metrics", response_class=Response, responses={200: {"content": _METRICS_CONTENT}})
    @app.get("/metrics/", include_in_schema=False)
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        """Prometheus text format, or OpenMetrics where `Accept` asks for it."""
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # a version that is no number
            encode, content_type = choose_encoder("")
        return Response(encode(registry), headers={"Content-Type": content_type})

    @app.get("/health", responses={503: {"description": "Messages are not received, or not committed"}})
    async def health() -> JSONResponse:
        """200 while messages are received and committed, else 503 with the problems."""
        problems = [problem for problem in (receiver.problem, journal.problem) if problem]
        if problems:
            return JSONResponse({"status": "failing", "problems": problems}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/sessions/{session}", responses={503: {"description": "The state file cannot be read"}})
    async def next_seq(session: Annotated[str, PathParameter(pattern=SESSION)]) -> Cursor:
        """The number of the trade expected next in a session: all below are committed. 1 for an unknown session."""
        try:
            return Cursor(session=session, next_seq=journal.next_seq(session))
        except sqlite3.Error as error:
            raise HTTPException(503, f"cannot read the state file: {error}") from None

    return app


def create_app_from_environ() -> FastAPI:
    """The app with the sockets and the state file that the environment names.

    Raises:
        SettingError: one of them cannot be used.
    """
    settings = Settings.from_environ()
    journal = Journal(Store(settings.state))
    try:
        return create_app(journal, Receiver(settings.zmq_bind, journal))
    except SettingError:
        journal.close()
        raise


def reloaded_app() -> FastAPI:
    """The app in a process that hot reload starts: a bad setting ends it, the next saved file tries again."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    with setting_errors():
        return create_app_from_environ()


@contextmanager
def setting_errors() -> Iterator[None]:
    try:
        yield
    except SettingError as error:
        raise SystemExit(f"metrics-sidecar: {error}") from None


def main() -> None:
    """The command ``metrics-sidecar``."""
    parser = argparse.ArgumentParser(
        description="Receive trades over ZeroMQ, serve them as Prometheus metrics. Settings come from the environment:"
        " SIDECAR_ZMQ_BIND, SIDECAR_STATE, HOST, PORT."
    )
    parser.add_argument("--reload", action="store_true", help="restart when a source file changes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    with setting_errors():
        settings = Settings.from_environ()
        require_free(settings.host, settings.port)
        if arguments.reload:
            Store(settings.state).close()
            require_bindable(settings.zmq_bind)
        app = "metrics_sidecar.app:reloaded_app" if arguments.reload else create_app_from_environ()
        # No access log: Prometheus asks every second.
        server.run(app, settings.host, settings.port, reload=arguments.reload)
