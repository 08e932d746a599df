"""Where the programs begin: Ctrl-C is quiet while their modules are still being imported, too."""

from __future__ import annotations

import importlib
import sys


def flows() -> None:
    _begin("flowobs.cli.flows")


def flowobs() -> None:
    _begin("flowobs.cli.flowobs")


def _begin(module: str) -> None:
    try:
        main = importlib.import_module(module).main
    except KeyboardInterrupt:
        sys.exit(130)
    main()
