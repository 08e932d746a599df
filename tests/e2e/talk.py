"""A process that makes TCP connections as it is told, a line at a time: stdlib only.

listen ADDRESS PORT, deaf ADDRESS PORT, connect ADDRESS PORT [OWN PORT], reach ADDRESS PORT,
dial ADDRESS PORT, send N, echo N, flood, wait, patience MS, reset, close, pid
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import threading
import time


def listen(address: str, port: int, deaf: bool = False) -> None:
    """Echo what comes as long as it starts with an "e", swallow the rest; or read nothing."""
    server = socket.create_server(
        (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
    )

    def serve() -> None:
        while True:
            threading.Thread(target=answer, args=[server.accept()[0]], daemon=True).start()

    def answer(one: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            while deaf:
                time.sleep(60)
            while data := one.recv(1 << 16):
                if data.endswith(b"e"):
                    one.sendall(b"!")

    threading.Thread(target=serve, daemon=True).start()


class Client:
    """One connection at a time."""

    def __init__(self) -> None:
        self.socket = socket.socket()

    def connect(self, address: str, port: str, own: str = "0") -> str:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        if own != "0":
            self.socket.bind(("", int(own)))
        started = time.perf_counter()
        try:
            self.socket.connect((address, int(port)))
        except OSError as error:
            self.socket.close()
            return type(error).__name__ + ("" if type(error) is not OSError else f" {error.errno}")
        return str(time.perf_counter() - started)

    def dial(self, address: str, port: str) -> str:
        """Connect as event loops do: they take the error from the socket, and close it."""
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as made:
            made.setblocking(False)
            made.connect_ex((address, int(port)))
            waiting = select.poll()
            waiting.register(made, select.POLLOUT)
            waiting.poll()
            error = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return errno.errorcode.get(error, "connected")

    def reach(self, address: str, port: str) -> str:
        """Connect, and have an answer: what connecting sent has passed all interfaces by then."""
        started = time.perf_counter()
        self.connect(address, port)
        self.echo("1")
        return str(time.perf_counter() - started)

    def send(self, size: str) -> None:
        self.socket.sendall(b"x" * int(size))

    def echo(self, size: str) -> None:
        self.socket.sendall(b"x" * (int(size) - 1) + b"e")
        self.socket.recv(1)

    def flood(self) -> None:
        """Send on and on until it is closed."""
        self.socket.setblocking(False)

        def send(one: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while True:
                    with contextlib.suppress(BlockingIOError):
                        one.send(b"x" * 65536)
                    time.sleep(0.001)

        threading.Thread(target=send, args=[self.socket], daemon=True).start()

    def patience(self, ms: str) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(ms))

    def wait(self) -> str:
        try:
            self.socket.recv(1)
        except OSError as error:
            return type(error).__name__
        return "ended"

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def pid(self) -> str:
        return str(os.getpid())


def main() -> None:
    client = Client()
    for line in sys.stdin:
        name, *words = line.split()
        if name in ("listen", "deaf"):
            listen(words[0], int(words[1]), deaf=name == "deaf")
            said = None
        else:
            said = getattr(client, name)(*words)
        print(said or "ok", flush=True)


if __name__ == "__main__":
    main()
