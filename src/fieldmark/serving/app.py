"""The app: routes, and what happens around each request."""

from __future__ import annotations

import re
import time
from secrets import token_hex

from fastapi import FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fieldmark.serving import v1, v2
from fieldmark.serving.errors import ApiError, handle_errors, told_error
from fieldmark.serving.page import page
from fieldmark.serving.security import HEADERS, TOKEN_HEADER
from fieldmark.serving.serving import Serving

_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_REQUEST_ID = re.compile(r"[\w.-]{1,64}")


def make_app(serving: Serving) -> FastAPI:
    app = FastAPI(title="Fieldmark", version="1", docs_url=None, redoc_url=None)
    app.include_router(v1.routes(serving))
    app.include_router(v2.routes(serving))
    handle_errors(app)
    document, policy = page(serving.guard.token)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(document, headers={"Content-Security-Policy": policy, "Permissions-Policy": "camera=(self)"})

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(serving.metrics.text(), media_type="text/plain; version=0.0.4")

    app.add_middleware(Around, serving=serving)
    if serving.settings.cors:
        known = ["authorization", "content-type", "x-api-key", TOKEN_HEADER]
        app.add_middleware(CORSMiddleware, allow_origins=list(serving.settings.cors), allow_methods=["GET", "POST"], allow_headers=known)
    return app


class Around:
    """Refuses what may not call, and names, counts and logs the rest."""

    def __init__(self, app: ASGIApp, serving: Serving):
        self._app, self._serving = app, serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        serving, began, status = self._serving, time.monotonic(), 500
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else token_hex(8)

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS, (b"x-request-id", request_id.encode())]
                if serving.stopping:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            try:
                serving.guard.check(scope["method"], scope["path"], headers)
            except ApiError as error:
                await told_error(scope["path"], error.status, error.message, error.hint, error.headers)(scope, receive, told)
            else:
                await self._app(scope, receive, told)
        finally:
            seconds = time.monotonic() - began
            route = getattr(scope.get("route"), "path", "other")
            serving.metrics.latency.labels(route, str(status)).observe(seconds)
            if status == 429:
                serving.metrics.shed.inc()
            images = {"images": scope["fieldmark.images"]} if "fieldmark.images" in scope else {}
            serving.log(id=request_id, route=f"{scope['method']} {route}", status=status, ms=round(1000 * seconds, 1), **images)
