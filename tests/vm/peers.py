"""Both ends of the conformance traffic, run inside namespaces: stdlib only.

peers.py server            echoes TCP and UDP, IPv4 and IPv6, on port 8080
peers.py client PLAN       PLAN is JSON, see client(); begins with the first line on stdin
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time
from typing import Any

PORT = 8080
OLD_ROUNDS = 5  # several drains
CLOSED = 9
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def server() -> None:
    """Echo until killed; a connection is closed after the client's FIN."""
    waiting = selectors.DefaultSelector()
    for af, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (TCP, UDP):
            one = socket.socket(af, kind)
            if af == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((anywhere, PORT))
            if kind == TCP:
                one.listen(64)
            waiting.register(one, selectors.EVENT_READ, "listening" if kind == TCP else "udp")
    print("ready", flush=True)
    while True:
        for key, _ in waiting.select():
            ready: Any = key.fileobj
            if key.data == "listening":
                waiting.register(ready.accept()[0], selectors.EVENT_READ, "connection")
            elif key.data == "udp":
                ready.sendto(*ready.recvfrom(2000))
            else:
                with contextlib.suppress(ConnectionError):
                    if data := ready.recv(2000):
                        ready.sendall(data)
                        continue
                waiting.unregister(ready)
                ready.close()


def exchange(connection: socket.socket, size: int) -> None:
    connection.sendall(bytes(size))
    while size:
        got = len(connection.recv(2000))
        assert got, "the server hung up"
        size -= got


def tcp(address: str, count: int) -> list[int]:
    """Connections one after the other, each closed by us; their local ports."""
    ports = []
    for _ in range(count):
        with socket.create_connection((address, PORT), timeout=10) as connection:
            ports.append(connection.getsockname()[1])
            exchange(connection, 300)
            connection.shutdown(socket.SHUT_WR)
            assert not connection.recv(1)
    return ports


def udp(address: str, count: int) -> list[int]:
    """Datagrams that come back; the one local port."""
    with socket.socket(family(address), UDP) as one:
        one.settimeout(10)
        one.connect((address, PORT))
        for size in range(100, 100 + count):
            one.send(bytes(size))
            assert len(one.recv(2000)) == size
        return [one.getsockname()[1]]


def ping(address: str, count: int) -> list[int]:
    """Echo requests that are answered; their identifier."""
    six = family(address) == socket.AF_INET6
    identifier = (os.getpid() & 0x7FFF) * 2 + six
    with socket.socket(family(address), socket.SOCK_RAW, 58 if six else 1) as raw:
        raw.settimeout(10)
        for number in range(count):
            packet = struct.pack("!BBHHH", 128 if six else 8, 0, 0, identifier, number)
            if not six:  # of ICMPv6 the kernel computes it
                total = sum(struct.unpack("!4H", packet))
                check = ~(total + (total >> 16)) & 0xFFFF
                packet = struct.pack("!BBHHH", 8, 0, check, identifier, number)
            raw.sendto(packet, (address, 0))
            while raw.recv(2000)[0 if six else 20] != (129 if six else 0):
                pass
    return [identifier]


def refused(address: str) -> list[int]:
    """An attempt at a closed port; our port."""
    with socket.socket(family(address), TCP) as one:
        one.bind(("::" if ":" in address else "0.0.0.0", 0))
        port: int = one.getsockname()[1]
        try:
            one.connect((address, CLOSED))
        except ConnectionRefusedError:
            return [port]
    raise AssertionError("somebody listens at the closed port")


def unheard(address: str) -> list[int]:
    """A datagram to a closed port, and what ICMP says to it; our port."""
    with socket.socket(family(address), UDP) as one:
        one.settimeout(10)
        one.connect((address, CLOSED))
        one.send(b"hello?")
        try:
            one.recv(1)
        except ConnectionRefusedError:
            return [one.getsockname()[1]]
    raise AssertionError("somebody answers from the closed port")


def lost(address: str, count: int) -> list[int]:
    """Datagrams that nobody answers; the one local port."""
    with socket.socket(family(address), UDP) as one:
        one.connect((address, PORT))
        for _ in range(count):
            one.send(b"anybody?")
        return [one.getsockname()[1]]


def reset(address: str) -> list[int]:
    """A connection that we reset; our port."""
    with socket.create_connection((address, PORT), timeout=10) as one:
        exchange(one, 300)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        port: int = one.getsockname()[1]
        return [port]


class Silence:
    """An attempt at an address where nobody is: SYN, SYN again after 1 s, given up after 3 s."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(family(address), TCP)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        self.socket.bind(("::" if ":" in address else "0.0.0.0", 0))
        self.port: int = self.socket.getsockname()[1]
        self.error: OSError | None = None
        self.thread = threading.Thread(target=self._run, args=(address,))
        self.thread.start()

    def _run(self, address: str) -> None:
        try:
            self.socket.connect((address, PORT))
        except OSError as error:
            self.error = error

    def end(self) -> list[int]:
        self.thread.join()
        self.socket.close()
        assert isinstance(self.error, TimeoutError), self.error
        return [self.port]


def client(plan: dict[str, Any]) -> dict[str, list[int]]:
    """Makes what ``plan`` says, and returns local ports (ICMP: identifiers) under its names.

    ``steps`` has ``name: [what, arguments ...]``, done in order, ``what`` a function of above.
    ``silent``, where it is given, is an address that nobody has, and ``old`` one to be connected to
    before stdin says go; something is sent there as long as the silence is listened to.
    """
    made: dict[str, list[int]] = {}
    steps: dict[str, list[Any]] = plan["steps"]
    with contextlib.ExitStack() as stack:
        old = None
        if "old" in plan:
            old = stack.enter_context(socket.create_connection((plan["old"], PORT), timeout=10))
            exchange(old, 300)
        print("ready", flush=True)
        sys.stdin.readline()
        silence = Silence(plan["silent"]) if "silent" in plan else None
        actions = {f.__name__: f for f in (tcp, udp, ping, refused, unheard, lost, reset)}
        for name, (what, *arguments) in steps.items():
            made[name] = actions[what](*arguments)
        if old is not None and silence is not None:
            rounds = 0
            while silence.thread.is_alive() or rounds < OLD_ROUNDS:
                exchange(old, 300)
                time.sleep(0.3)
                rounds += 1
            made["old"] = [old.getsockname()[1]]
            made["silent"] = silence.end()
    return made


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server()
    else:
        print(json.dumps(client(json.loads(sys.argv[2]))), flush=True)
