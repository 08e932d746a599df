"""Addresses on the command line, ``host:port``."""

from __future__ import annotations

import ipaddress
import socket

import click

from flowobs.cli.errors import CliError


def split(text: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``. Raises click.BadParameter."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise click.BadParameter(f"'{text}' is no address, write it like 127.0.0.1:8080.")
    return host.removeprefix("[").removesuffix("]"), int(port)


def checked(ctx: click.Context, param: click.Parameter, value: str) -> str:
    split(value)
    return value


def is_local(text: str) -> bool:
    """Whether only this machine is behind it."""
    if text.startswith("unix:"):
        return True
    host, _ = split(text)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_free(option: str, text: str) -> None:
    """Raises CliError when nobody could listen at ``text``, the value of ``option``."""
    host, port = split(text)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or error
            raise CliError(
                f"Cannot listen on {text} ({reason}). Stop what does, or give another {option}."
            ) from error
