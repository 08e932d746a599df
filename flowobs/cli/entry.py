"""Where the commands begin: Ctrl-C while something is imported ends them without a word."""

from __future__ import annotations

import os

INTERRUPTED = 130

try:
    import signal
    from collections.abc import Iterator
    from contextlib import contextmanager
except KeyboardInterrupt:
    os._exit(INTERRUPTED)


@contextmanager
def importing() -> Iterator[None]:
    """An exception would come up anywhere: some modules make an error of their own of it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def flows() -> None:
    """``flows``"""
    with importing():
        from flowobs.cli.flows import main
    main()


def flowobs() -> None:
    """``flowobs``"""
    with importing():
        from flowobs.cli.flowobs import main
    main()
