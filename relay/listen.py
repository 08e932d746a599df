"""Opening the relay's listeners: every failure is one sentence."""

from __future__ import annotations

import errno
import os
import socket

import grpc
import grpc.aio

from relay.config import Address


class ListenError(Exception):
    """An address cannot be listened on. One sentence and the next step."""


def http_socket(address: Address) -> socket.socket:
    """A listening TCP socket for people and tools. Raises ListenError."""
    sock = _bind(address, "--http")
    sock.listen(128)
    sock.setblocking(False)
    return sock


def grpc_listen(
    server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None
) -> Address:
    """Add a listener to ``server``; the address with the port it got. Raises ListenError."""
    if address.path:
        _check_socket(address)
    else:
        _bind(address, "--listen").close()  # gRPC's own error does not say why
    target = f"unix:{address.path}" if address.path else str(address)
    try:
        if credentials is None or address.path:
            port = server.add_insecure_port(target)
        else:
            port = server.add_secure_port(target, credentials)
    except RuntimeError:
        raise ListenError(
            f"cannot listen on {address}; give another address with --listen"
        ) from None
    return Address(address.host, port, address.path)


def bound(sock: socket.socket, address: Address) -> Address:
    """``address`` with the port that ``sock`` got."""
    return Address(address.host, sock.getsockname()[1])


def _bind(address: Address, option: str) -> socket.socket:
    try:
        family, kind, proto, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as error:
        raise _refused(address, error, option) from None
    try:
        sock.bind(where)
    except OSError as error:
        sock.close()
        raise _refused(address, error, option) from None
    return sock


def _check_socket(address: Address) -> None:
    # gRPC takes over the path of a running relay without a word
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(address.path)
    except (FileNotFoundError, ConnectionRefusedError):
        return  # free, or left behind by a relay that was killed
    except OSError as error:
        raise _refused(address, error, "--listen") from None
    finally:
        probe.close()
    raise _refused(address, OSError(errno.EADDRINUSE, ""), "--listen")


def _refused(address: Address, error: OSError, option: str) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return ListenError(
            f"{address} is in use; stop what listens there or give another address with {option}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ListenError(
            f"no permission to listen on {address}; give a port above 1023 with {option}"
        )
    reason = (error.strerror or os.strerror(error.errno or 0)).lower()
    return ListenError(f"cannot listen on {address} ({reason}); give another with {option}")
