"""The trading page, and the program that serves it."""

import logging
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trading_app.guard import Guard
from trading_app.metrics import render
from trading_app.program import Program
from trading_app.settings import Settings
from trading_app.ui.desk import shared_desk


def create_app_from_environ() -> st.App:
    """The page, with settings from the environment. Streamlit's own settings are in ``.streamlit``."""
    settings = Settings.from_environ(port=8501)
    # One page load makes a hundred requests. Streamlit restores the log's handler when it starts, so disable the log.
    logging.getLogger("uvicorn.access").disabled = True
    guard = Middleware(Guard, allowed_hosts=settings.allowed_hosts, allowed_origins=[settings.ui_origin])
    return st.App(Path(__file__).with_name("page.py"), routes=[Route("/metrics", metrics)], middleware=[guard])


def metrics(request: Request) -> Response:
    """The metrics of the desk's publisher, for Prometheus."""
    body, content_type = render(shared_desk().registry, request.headers.get("Accept", ""))
    return Response(body, headers={"Content-Type": content_type})


main = Program(
    name="trading-app",
    factory="trading_app.ui:create_app_from_environ",
    port=8501,
    outbox="ui",
    description="Serve the trading page. Settings come from the environment: WEBAPP_ZMQ_ADDR, WEBAPP_SIDECAR_URL,"
    " WEBAPP_OUTBOX, WEBAPP_CURVE, WEBAPP_PROMETHEUS_URL, WEBAPP_GRAFANA_URL, WEBAPP_UI_URL, WEBAPP_ALLOWED_HOSTS,"
    " HOST, PORT.",
).run
