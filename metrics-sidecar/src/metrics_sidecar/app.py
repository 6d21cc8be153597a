"""The HTTP interface and the command ``metrics-sidecar``."""

import argparse
import asyncio
import logging
import os
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse

from metrics_sidecar import reloader, server
from metrics_sidecar.curve import Keys
from metrics_sidecar.engine import Engine
from metrics_sidecar.exposition import render
from metrics_sidecar.guard import Guard
from metrics_sidecar.inlet import BindError, require_bindable
from metrics_sidecar.messages import SESSION
from metrics_sidecar.questions import NoAnswer
from metrics_sidecar.recent import KEPT, CountedTrade
from metrics_sidecar.settings import SettingError, Settings, is_loopback, require_free
from metrics_sidecar.store import Cursor, Store
from metrics_sidecar.store_error import StoreError

_METRICS_CONTENT = {media: {"schema": {"type": "string"}} for media in ("text/plain", "application/openmetrics-text")}
_FAILING: dict[int | str, dict[str, Any]] = {
    503: {"description": "Messages are not being received or not being committed"}
}

log = logging.getLogger(__name__)


def create_app(engine: Engine, *, allowed_hosts: Collection[str] = ()) -> FastAPI:
    """Build the HTTP interface. The engine starts and stops with the app. `Guard` explains ``allowed_hosts``."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        try:
            yield
        finally:
            await asyncio.to_thread(engine.stop)

    app = FastAPI(title="metrics-sidecar", lifespan=lifespan)
    app.add_middleware(Guard, allowed_hosts=allowed_hosts)

    @app.exception_handler(NoAnswer)
    @app.exception_handler(StoreError)
    async def failing(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"status": "failing", "problems": [str(error)]}, status_code=503)

    @app.get("/metrics", response_class=Response, responses={200: {"content": _METRICS_CONTENT}, **_FAILING})
    @app.get("/metrics/", include_in_schema=False)
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        """All metrics, in the Prometheus text format, or in OpenMetrics if the `Accept` header asks for it."""
        snapshot = await engine.ask(engine.snapshot)
        # Rendering many symbols takes too long for the event loop.
        body, content_type = await asyncio.to_thread(render, snapshot, accept)
        return Response(body, headers={"Content-Type": content_type})

    @app.get("/health", responses=_FAILING)
    async def health() -> JSONResponse:
        """200 while messages are received and committed. Otherwise 503 with a list of problems."""
        problem = await engine.ask(engine.check_health)
        if problem:
            return JSONResponse({"status": "failing", "problems": [problem]}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/sessions/{session}", responses=_FAILING)
    async def cursor(session: Annotated[str, PathParameter(pattern=SESSION)]) -> Cursor:
        """The committed cursor of a session: all trades below `next_seq` are committed. 1 for an unknown session."""
        return await engine.ask(lambda: engine.cursor(session))

    @app.get("/trades", responses=_FAILING)
    async def trades(limit: Annotated[int, Query(ge=1, le=KEPT)] = 100) -> list[CountedTrade]:
        """The most recently counted trades of all publishers, newest first."""
        return await engine.ask(lambda: engine.last_trades(limit))

    return app


@contextmanager
def setting_errors(settings: Settings) -> Iterator[None]:
    """Turn an error of the socket or the state file into an error of the setting that names it."""
    try:
        yield
    except StoreError as error:
        raise SettingError("SIDECAR_STATE", str(settings.state), error.cause, error.remedy) from None
    except BindError as error:
        raise SettingError("SIDECAR_ZMQ_BIND", settings.zmq_bind, error.cause, error.remedy) from None


def create_app_from_environ() -> FastAPI:
    """Build the app from the settings in the environment.

    Raises:
        SettingError: a setting is invalid, or its socket, file or folder cannot be used.
    """
    settings = Settings.from_environ()
    with setting_errors(settings):
        keys = Keys(settings.curve) if settings.curve else None
        store = Store(settings.state)
        engine = Engine(settings.zmq_bind, store, max_symbols=settings.symbols, keys=keys)
        # Without its engine the program counts nothing. Ended by a signal, it is started again.
        engine.on_failure = os.abort
        return create_app(engine, allowed_hosts=settings.allowed_hosts)


def reloaded_app() -> FastAPI:
    """Build the app in a process started by hot reload. An invalid setting ends it; saving a source file retries."""
    with one_line_errors():
        return create_app_from_environ()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one line on stderr if a setting is invalid."""
    try:
        yield
    except SettingError as error:
        raise SystemExit(f"metrics-sidecar: {error}") from None


def main() -> None:
    """Run the command ``metrics-sidecar``."""
    parser = argparse.ArgumentParser(
        description="Count trades from ZeroMQ and serve the totals as Prometheus metrics. Environment variables:"
        " SIDECAR_ZMQ_BIND, SIDECAR_STATE, SIDECAR_SYMBOLS, SIDECAR_CURVE, SIDECAR_ALLOWED_HOSTS, HOST, PORT."
    )
    parser.add_argument("--reload", action="store_true", help="restart when a source file changes")
    arguments = parser.parse_args()
    server.configure_logging()
    with one_line_errors():
        settings = Settings.from_environ()
        require_free(settings.host, settings.port)
        if arguments.reload:
            with setting_errors(settings):
                Store(settings.state).close()
                require_bindable(settings.zmq_bind)
            _warn_if_open(settings)
            reloader.run("metrics_sidecar.app:reloaded_app", settings.host, settings.port)
        else:
            app = create_app_from_environ()
            _warn_if_open(settings)
            server.run(app, settings.host, settings.port)


def _warn_if_open(settings: Settings) -> None:
    if not settings.curve and not is_loopback(settings.zmq_bind):
        log.warning(
            "SIDECAR_ZMQ_BIND=%s without SIDECAR_CURVE: everyone who reaches this port can send trades. Set"
            " SIDECAR_CURVE (bin/keys makes its files), or SIDECAR_ZMQ_BIND=tcp://127.0.0.1:5555",
            settings.zmq_bind,
        )
