"""What callers are told when there is no answer: {"error": {"message": ..., "hint": ...}}."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from fieldmark.serving.batcher import Closed, Expired, Overloaded, retry_after
from fieldmark.serving.schema import ErrorBody, ErrorMessage, V2Error


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.hint, self.headers = status, message, hint, dict(headers or {})


def told_error(path: str, status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> JSONResponse:
    """In the form of the API that `path` belongs to: in the open inference protocol an error is a text."""
    body: BaseModel = ErrorBody(error=ErrorMessage(message=message, hint=hint))
    if path == "/v2" or path.startswith("/v2/"):
        body = V2Error(error=f"{message}: {hint}" if hint else message)
    return JSONResponse(body.model_dump(), status, dict(headers or {}))


def handle_errors(app: FastAPI) -> None:
    """Have all errors of the app told in one form."""

    @app.exception_handler(ApiError)
    async def _(request: Request, error: ApiError) -> JSONResponse:
        return told_error(request.url.path, error.status, error.message, error.hint, error.headers)

    @app.exception_handler(Overloaded)
    async def _(request: Request, error: Overloaded) -> JSONResponse:
        seconds = retry_after(error.seconds)
        said = "there is more to do than can be done in time"
        return told_error(request.url.path, 429, said, f"Try again after {seconds} s.", {"Retry-After": str(seconds)})

    @app.exception_handler(Expired)
    async def _(request: Request, error: Expired) -> JSONResponse:
        return told_error(request.url.path, 503, "the answer was not ready in time", "Try again.", {"Retry-After": "1"})

    @app.exception_handler(Closed)
    async def _(request: Request, error: Closed) -> JSONResponse:
        return told_error(request.url.path, 503, "the server is being stopped", "Try again.", {"Retry-After": "1", "Connection": "close"})

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"][1:])
        return told_error(
            request.url.path, 422, f"{place}: {first['msg']}" if place else first["msg"], "The API is described at /openapi.json."
        )

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> JSONResponse:
        return told_error(request.url.path, 500, "something is wrong with the server, and its log says what")

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        hint = "The API is described at /openapi.json." if error.status_code in (404, 405) else ""
        return told_error(request.url.path, error.status_code, str(error.detail), hint, error.headers)
