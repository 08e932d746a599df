"""Drives a real Chromium over a page of the web app: ``browse(url, steps)``.

Chromium runs in a small node script (ui/scripts/browse.mjs, where the steps are listed), because
playwright-core is there already, for development. The service map is on the page as text, too:
``edges(url)`` reads it, one entry an edge, named ``shop/web-0->shop/api-1:8080``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

UI = Path(__file__).resolve().parents[2] / "ui"
BUILD = "npm --prefix ui ci && npm --prefix ui run build"


@dataclass(frozen=True, slots=True)
class Edge:
    """A row of the page's list of connections."""

    edge: str
    proto: str
    bad: int
    text: str


@dataclass(frozen=True, slots=True)
class Visit:
    """What the steps read, in order, and what the page complained about."""

    results: list[Any]
    console: list[str]


def chromium() -> str | None:
    """The browser's path."""
    return next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


def require_browser() -> None:
    """Skips the test where no browser can be driven, and says what is missing."""
    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    if shutil.which("node") is None:
        pytest.skip("no Node.js on this machine")
    if not (UI / "node_modules" / "playwright-core").is_dir():
        pytest.skip(f"playwright-core is not installed: {BUILD}")


def require_app() -> None:
    """Skips the test where the web app is not built."""
    if not (UI / "dist" / "index.html").is_file():
        pytest.skip(f"the web app is not built: {BUILD}")


def browse(
    url: str, steps: Sequence[dict[str, Any]], *, timeout: float = 40, **options: Any
) -> Visit:
    """Opens ``url`` and performs ``steps``; each may take ``timeout`` seconds.

    ``options``: width, height, scale, dark, reducedMotion.
    """
    script = {
        "url": url,
        "steps": list(steps),
        "timeout_ms": timeout * 1000,
        "chromium": chromium(),
        **options,
    }
    done = subprocess.run(
        ["node", str(UI / "scripts" / "browse.mjs")],
        input=json.dumps(script),
        capture_output=True,
        text=True,
        timeout=60 + timeout * len(steps),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "error" not in answer, f"{answer['error']}\n{answer['console']}"
    return Visit(answer["results"], answer["console"])


def edges(
    url: str, *, wait_for: str = "[data-edge]", screenshot: Path | None = None, **options: Any
) -> list[Edge]:
    """The edges on the map at ``url``, once an element ``wait_for`` (a CSS selector) is there.

    ``screenshot`` keeps a picture of the page, taken when the map has come to rest.
    """
    steps: list[dict[str, Any]] = [{"wait": wait_for}]
    if screenshot is not None:
        steps += [{"sleep": 1500}, {"screenshot": str(screenshot)}]
    steps.append({"edges": True})
    return [Edge(**edge) for edge in browse(url, steps, **options).results[-1]]
