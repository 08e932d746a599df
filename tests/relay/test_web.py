"""The web map's files, and the page where there are none."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from relay.http import errors, web


def client(folder: Path | None) -> httpx.AsyncClient:
    app = FastAPI(openapi_url=None)
    errors.install(app)
    web.install(app, folder)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://relay")


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<script src=./assets/index-4f2a.js></script>")
    (folder / "assets" / "index-4f2a.js").write_text("1")
    (tmp_path / "secret").write_text("secret")
    return folder


async def test_hashed_files_are_kept_and_the_page_is_not(dist: Path) -> None:
    async with client(dist) as http:
        page = await http.get("/")
        assert page.headers["cache-control"] == "no-cache" and "index-4f2a" in page.text
        assert page.headers["x-content-type-options"] == "nosniff"
        script = await http.get("/assets/index-4f2a.js")
        assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
        again = await http.get("/", headers={"if-none-match": page.headers["etag"]})
        assert again.status_code == 304 and again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/nope", "/../secret", "/%2e%2e/secret", "/assets"])
async def test_nothing_else_is_served(dist: Path, path: str) -> None:
    async with client(dist) as http:
        answer = await http.get(path)
    assert answer.status_code == 404
    assert "there is nothing at" in answer.json()["error"]


async def test_a_page_says_how_to_build_it() -> None:
    async with client(None) as http:
        page = await http.get("/")
        assert page.status_code == 200 and "make ui" in page.text
        assert (await http.get("/assets/x.js")).status_code == 404


async def test_a_bug_is_one_sentence_to_the_client() -> None:
    app = FastAPI(openapi_url=None)
    errors.install(app)

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("inside")

    @app.get("/checked")
    async def checked(number: int) -> None:
        return None

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://relay") as http:
        answer = await http.get("/bug")
        assert answer.status_code == 500
        assert answer.json() == {"error": "the relay failed to answer; its log says why"}
        invalid = await http.get("/checked?number=x")
        assert invalid.status_code == 400
        assert invalid.json()["error"].startswith("`number` is not right: input should be")
