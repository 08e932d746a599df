"""What ends a command, and with which exit code.

click.ClickException
`-- CliError          1  it did not work
    |-- Refused       2  the relay refused the request
    |-- NothingFound  3  --fail-empty and no record matched
    |-- Unreachable   4  nobody answers at the server's address  (a tail tries again)
    |-- Interrupted   1  the answer ended too early              (a tail tries again)
    `-- Unavailable   1  the relay answers, but cannot help now  (a tail tries again)
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from flowobs.cli.entry import INTERRUPTED

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EBADF)


class CliError(click.ClickException):
    """One sentence and the next step, on stderr."""

    exit_code = 1
    retry = False


class Refused(CliError):
    exit_code = 2


class NothingFound(CliError):
    exit_code = 3


class Unreachable(CliError):
    exit_code = 4
    retry = True


class Interrupted(CliError):
    retry = True


class Unavailable(CliError):
    retry = True


@contextmanager
def guarded(debug: bool) -> Iterator[None]:
    """What a command did not handle becomes an exit code; Ctrl-C is quiet, a closed pipe silent."""
    if sys.stdout is None:  # closed from the start (>&-): only who writes shall hear of it
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        raise click.exceptions.Exit(INTERRUPTED) from stop
    except BrokenPipeError as gone:
        _forget_output()
        raise click.exceptions.Exit(0) from gone
    except (click.ClickException, click.exceptions.Exit, click.Abort) as error:
        if debug and isinstance(error, CliError):
            traceback.print_exc()
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
            raise click.exceptions.Exit(1) from error
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            _forget_output()
            raise CliError(f"The output could not be written: {error.strerror}.") from error
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        raise CliError(f"internal error ({what}). Add --debug to see where.") from error


def _forget_output() -> None:
    """What is buffered has nowhere to go: the interpreter would trip over it on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
