"""Errors as the API tells them: ``{"error": "one sentence and the next step"}``.

What is wrong with a question has a ``column``, too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

STOPPING: Final = "the relay is shutting down: ask again in a few seconds"


class ApiError(Exception):
    """An answer that is not 200. ``sentence`` says what is wrong and what to do; ``column`` where
    in the question, from 1; ``retry_s`` when it may be asked again."""

    def __init__(
        self, status: int, sentence: str, column: int | None = None, retry_s: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.column = column
        self.retry_s = retry_s


def install(app: FastAPI) -> None:
    """Make every error of ``app`` an ``{"error": ...}``."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(_Stopping)


def broke_off(sentence: str) -> None:
    """Log that an answer which had begun has no end."""
    log.warning("an answer broke off: %s", sentence)


class _Stopping:
    """Whoever still waits when the relay stops is told so: uvicorn cancels what has not ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            if begun:
                broke_off(STOPPING)
            else:
                await _answer(503, STOPPING)(scope, receive, send)


def _answer(
    status: int, sentence: str, column: int | None = None, retry_s: int | None = None
) -> JSONResponse:
    place = {} if column is None else {"column": column}
    headers = {"cache-control": "no-store"}
    if retry_s is not None:
        headers["retry-after"] = str(retry_s)
    return JSONResponse({"error": sentence, **place}, status, headers)


def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _answer(error.status, error.sentence, error.column, error.retry_s)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(404, f"there is nothing at {request.url.path}; see docs/api.md")
    if error.status_code == 405:
        return _answer(405, f"{request.url.path} only answers GET; see docs/api.md")
    return _answer(error.status_code, f"{error.detail}; see docs/api.md")


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = first["loc"][-1] if first["loc"] else "request"
    message = str(first["msg"])
    return _answer(
        400, f"`{name}` is not right: {message[:1].lower()}{message[1:]}; see docs/api.md"
    )


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # uvicorn logs the traceback; the client gets a sentence
    return _answer(500, "the relay failed to answer; its log says why")
