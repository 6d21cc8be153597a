"""The HTTP API: one POST emits one trade."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from msgspec.structs import asdict
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trading_app.guard import MAX_BODY, Guard
from trading_app.messages import MAX_PRICE, MAX_QTY, SYMBOL, Side
from trading_app.metrics import process_registry, render
from trading_app.outbox import open_outbox
from trading_app.outbox_error import OutboxError
from trading_app.program import Program
from trading_app.publisher import TradePublisher
from trading_app.settings import Settings

_JSON = "application/json"
_METRICS = {media: {"schema": {"type": "string"}} for media in ("text/plain", "application/openmetrics-text")}
_OPTIONAL = ("symbol", "price")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


_Symbol = Annotated[str, Field(pattern=SYMBOL)]
_Price = Annotated[float, Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)]


class OrderRequest(BaseModel):
    """An order for ``qty`` units of ``symbol`` at ``price`` per unit."""

    # A misspelled field must not become a trade of 1 unit.
    model_config = ConfigDict(extra="forbid")

    qty: Annotated[
        float, Field(gt=0, le=MAX_QTY, allow_inf_nan=False, description="Units to trade, above 0", examples=[2.5])
    ] = 1.0
    symbol: Annotated[_Symbol | None, Field(description="The symbol to trade", examples=["BTC-USD"])] = None
    price: Annotated[_Price | None, Field(description="Price per unit", examples=[100.5])] = None


def _form_schema() -> dict[str, Any]:
    """The schema of an order as an HTML form, which cannot express null: a field without a value is empty."""
    schema = OrderRequest.model_json_schema()
    for name in _OPTIONAL:
        field = schema["properties"][name]
        field["anyOf"][1] = {"type": "string", "maxLength": 0}
        del field["default"]
    return schema


_BODIES = {
    _JSON: {"schema": OrderRequest.model_json_schema()},
    **{key: {"schema": _form_schema()} for key in _FORMS},
}
_OTHER_ANSWERS: dict[int | str, str] = {
    303: "For an HTML form: redirect to the page",
    400: "The form is malformed, or the Host header is missing",
    403: "The request comes from another website",
    413: f"The body is larger than {MAX_BODY} bytes",
    415: "The body is neither JSON nor an HTML form",
    421: "Unknown host",
    503: "The trade cannot be stored or sent",
}


class Accepted(BaseModel):
    """The emitted trade."""

    type: Literal["trade"] = "trade"
    side: Side
    qty: float
    ts: Annotated[float, Field(description="Unix time in seconds")]
    session: str
    seq: int
    symbol: str | None = None
    price: float | None = None


def create_app(publisher: TradePublisher, settings: Settings) -> FastAPI:
    """Return the HTTP API. It closes the publisher when it stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            publisher.close()

    registry = process_registry(publisher)
    # FastAPIOffline serves the documentation page without a network.
    app = FastAPIOffline(redoc_url=None, title="trading-app", lifespan=lifespan)
    app.add_middleware(Guard, allowed_hosts=settings.allowed_hosts, allowed_origins=[settings.ui_origin])

    @app.post(
        "/trade/{side}",
        status_code=202,
        response_model=Accepted,
        response_model_exclude_none=True,
        responses={status: {"description": description} for status, description in _OTHER_ANSWERS.items()},
        openapi_extra={"requestBody": {"content": _BODIES}},
    )
    async def trade(side: Side, request: Request) -> Response | Accepted:
        """Emit one trade. JSON is answered with the trade, an HTML form with a redirect to the page."""
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_form = media_type in _FORMS
        if not is_form and media_type != _JSON and (media_type or await request.body()):
            raise HTTPException(415, f"send {_JSON} or an HTML form")
        order = await _read_order(request, is_form=is_form)
        try:
            trade = publisher.publish(side, order.qty, symbol=order.symbol, price=order.price)
        except (OutboxError, RuntimeError) as error:
            raise HTTPException(503, str(error)) from None
        return RedirectResponse(settings.ui_url, 303) if is_form else Accepted(**asdict(trade))

    @app.get("/metrics", response_class=Response, responses={200: {"content": _METRICS}})
    def metrics(accept: Annotated[str, Header()] = "") -> Response:
        """Return metrics in the Prometheus text format, or in OpenMetrics if `Accept` asks for it."""
        body, content_type = render(registry, accept)
        return Response(body, headers={"Content-Type": content_type})

    return app


async def _read_order(request: Request, *, is_form: bool) -> OrderRequest:
    try:
        if is_form:
            async with request.form() as form:
                # A browser sends a field that was left blank as an empty text.
                fields = {name: str(value) for name, value in form.items() if value or name not in _OPTIONAL}
                return OrderRequest.model_validate_strings(fields)
        return OrderRequest.model_validate_json(await request.body() or b"{}", strict=True)
    except ValidationError as error:
        raise RequestValidationError(
            [
                {**problem, "loc": ("body", *problem["loc"])}
                for problem in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        ) from None


def create_app_from_environ() -> FastAPI:
    """Return the app with the settings of the environment."""
    settings = Settings.from_environ(port=8000)
    outbox = open_outbox(settings.outbox, "api")
    publisher = TradePublisher(settings.zmq_addr, sidecar_url=settings.sidecar_url, outbox=outbox, curve=settings.curve)
    return create_app(publisher, settings)


main = Program(
    name="trading-api",
    factory="trading_app.api:create_app_from_environ",
    port=8000,
    outbox="api",
    description="Accept trades over HTTP and emit them over ZeroMQ. Settings come from the environment:"
    " WEBAPP_ZMQ_ADDR, WEBAPP_SIDECAR_URL, WEBAPP_OUTBOX, WEBAPP_CURVE, WEBAPP_UI_URL, WEBAPP_ALLOWED_HOSTS,"
    " HOST, PORT.",
).run
