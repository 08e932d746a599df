"""Benchmarks: each module here is one; its ``run()`` measures and says against what.

A figure is a dict: bench, metric, value, unit, against, ratio.
``ratio`` compares ``value`` with what ``against`` names, taken in the same run, or is None.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

Figure = dict[str, Any]


def names() -> list[str]:
    """All benchmarks. Modules that start with an underscore are parts of one."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name: str) -> Callable[[], list[Figure]]:
    run: Callable[[], list[Figure]] = importlib.import_module(f"bench.{name}").run
    return run
