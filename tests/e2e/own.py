"""Processes whose sockets are to be found: own.py ROLE PROTO ADDRESS PORT. Stdlib only.

``server`` echoes, ``mute`` only reads, ``hasty`` closes at once, ``forking`` has a worker that
accepts, ``activating`` one that closes at once, ``daemon`` has its socket before it forks and its
parent ends, ``unbound`` listens wherever the kernel likes and tells the "port"; ``client`` asks
once for each "go" and sends for each "tell", ``once`` asks once and ends, ``again`` asks once from
the port that all of its kind have, and hangs up at once. "pid" and "worker" are answered with
numbers.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

KIND = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def make(proto: str, address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, KIND[proto])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def serve(made: socket.socket, proto: str, hasty: bool, mute: bool = False) -> None:
    if proto == "udp":
        while True:
            data, peer = made.recvfrom(100)
            if not mute:
                made.sendto(data, peer)
    while True:
        one, _ = made.accept()
        if hasty:
            with one, contextlib.suppress(OSError):
                one.recv(100)
        else:
            threading.Thread(target=echo, args=[one], daemon=True).start()


def echo(one: socket.socket) -> None:
    with one, contextlib.suppress(OSError):
        while data := one.recv(100):
            one.sendall(data)


def ask(made: socket.socket) -> None:
    made.sendall(b"question")
    made.recv(100)


def server(role: str, proto: str, address: str, port: int) -> dict[str, Callable[[], str]]:
    made = make(proto, address)
    if role != "unbound":
        made.bind((address, port))
    if proto == "tcp":
        made.listen(100)
    if role in ("forking", "activating"):
        if worker := os.fork():
            return {"worker": lambda: str(worker)}
        serve(made, proto, role == "activating")
    if role == "daemon" and os.fork():
        os._exit(0)
    hasty = role in ("hasty", "daemon", "unbound")
    threading.Thread(target=serve, args=[made, proto, hasty, role == "mute"], daemon=True).start()
    return {"port": lambda: str(made.getsockname()[1])}


def client(role: str, proto: str, address: str, port: int) -> dict[str, Callable[[], str]]:
    made = make(proto, address)
    made.connect((address, port))
    if role == "once":
        ask(made)
        made.close()
        print(f"ready\n{os.getpid()}", flush=True)
        sys.exit()

    def go() -> str:
        ask(made)
        return "done"

    def tell() -> str:
        made.sendall(b"news")
        return "told"

    def close() -> str:
        made.close()
        return "closed"

    return {"go": go, "tell": tell, "close": close}


def again(role: str, proto: str, address: str, port: int) -> dict[str, Callable[[], str]]:
    def go() -> str:
        with make(proto, address) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.bind(("", port - 1))
            made.connect((address, port))
            ask(made)
        return "done"

    return {"go": go}


def main() -> None:
    role, proto, address, port = sys.argv[1:]
    Path("/proc/self/comm").write_text(role)
    make_role = {"client": client, "once": client, "again": again}.get(role, server)
    does = make_role(role, proto, address, int(port)) | {"pid": lambda: str(os.getpid())}
    print("ready", flush=True)
    for line in sys.stdin:
        print(does[line.strip()](), flush=True)


if __name__ == "__main__":
    main()
