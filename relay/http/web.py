"""GET /: the web map, as static files, or a page that says how to build it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_NEVER: Final = "no-cache"
_FOREVER: Final = "public, max-age=31536000, immutable"
_GUARDS: Final = {
    "content-security-policy": "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""What the page's own policy (a meta element, see ui/vite.config.ts) cannot say."""

_NOT_BUILT: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>flowobs</title>
<style>body{font:16px/1.5 system-ui;max-width:40em;margin:15vh auto;padding:0 1em}</style>
<h1>The web map is not built</h1>
<p>This is the flowobs relay. It takes and stores flow records, and its API works:
try <a href="api/v1/status">api/v1/status</a> or <a href="api/v1/flows">api/v1/flows</a>.</p>
<p>To see the map here, run <code>make ui</code> in the checkout (it needs Node.js), or install
the <code>flowobs</code> wheel, which holds it.</p></html>
"""


def install(app: FastAPI, folder: Path | None) -> None:
    """Serve the built app from ``folder``, or the explanation where it is None.

    Links of the app are relative, so it works behind a proxy that strips a path prefix.
    """
    if folder is not None:
        app.mount("/", _Web(directory=folder, html=True), "web")
        return
    routes = APIRouter()

    @routes.get("/")
    async def not_built() -> Response:
        return HTMLResponse(_NOT_BUILT, headers={"cache-control": _NEVER, **_GUARDS})

    app.include_router(routes)


class _Web(StaticFiles):
    """Files under ``assets/`` have a hash in their name and never change; all others may."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        assert self.directory is not None
        hashed = Path(full_path).is_relative_to(Path(self.directory).resolve() / "assets")
        response.headers["cache-control"] = _FOREVER if hashed else _NEVER
        if isinstance(response, FileResponse):
            response.headers.update(_GUARDS)
        return response
