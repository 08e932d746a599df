"""Where the commands begin: Ctrl-C while they are being imported ends them without a word."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130


@contextmanager
def _quiet() -> Iterator[None]:
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


def flows() -> None:
    """``flows``"""
    with _quiet():
        from flowobs.cli.flows import main
    main()


def flowobs() -> None:
    """``flowobs``"""
    with _quiet():
        from flowobs.cli.flowobs import main
    main()
