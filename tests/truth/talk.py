"""Known traffic of many flows at once, run inside a namespace: stdlib only.

talk.py server ADDRESS PORT                     TCP and UDP echo
talk.py tcp|udp ADDRESS PORT FLOWS ROUNDS SIZE  all flows open at once; ROUNDS echoes of SIZE bytes
talk.py icmp ADDRESS FIRST FLOWS ROUNDS SIZE    an echo identifier each, from FIRST on
talk.py hold tcp|udp ADDRESS PORT FLOWS         an echo on each now, and for each line on stdin
talk.py abort ADDRESS PORT COUNT                connections that their client resets
talk.py burst ADDRESS PORT COUNT                datagrams that nobody answers, and one 1.5 s later
talk.py segments ADDRESS PORT COUNT SIZE        datagrams, handed over 10 at a time (UDP_SEGMENT)
talk.py sink ADDRESS PORT COUNT                 reads so many datagrams, prints their number, bytes

A process calls itself talk-<its first argument>.
"""

from __future__ import annotations

import resource
import selectors
import socket
import struct
import sys
import time
from pathlib import Path

ANSWER_SECONDS = 10.0
ICMP_ECHO = {4: 8, 6: 128}
UDP_SEGMENT = 103
SO_RCVBUFFORCE = 33
SEGMENTS = 10


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def opened(kind: str, address: str, port: int) -> socket.socket:
    type = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    made = socket.socket(family(address), type)
    made.settimeout(ANSWER_SECONDS)
    made.connect((address, port))
    if kind == "tcp":
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def exactly(sock: socket.socket, size: int) -> None:
    while size:
        got = len(sock.recv(size))
        assert got, "the other end hung up"
        size -= got


def echo(kind: str, address: str, port: int, flows: int, rounds: int, size: int) -> None:
    """One message a flow is under way at a time: no segments are merged into a larger one."""
    socks = [opened(kind, address, port) for _ in range(flows)]
    for _ in range(rounds):
        for part in range(0, flows, 50):  # answers must fit into receive buffers
            for sock in socks[part : part + 50]:
                sock.send(bytes(size))
            for sock in socks[part : part + 50]:
                exactly(sock, size)
    for sock in socks:
        sock.close()


def ping(address: str, first: int, flows: int, rounds: int, size: int) -> None:
    version = 6 if family(address) == socket.AF_INET6 else 4
    protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
    with socket.socket(family(address), socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(ANSWER_SECONDS)
        for sequence in range(rounds):
            for identifier in range(first, first + flows):
                head = struct.pack("!BBHHH", ICMP_ECHO[version], 0, 0, identifier, sequence)
                data = head + bytes(size)
                if version == 4:  # the kernel makes that of ICMPv6
                    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
                    total = (total >> 16) + (total & 0xFFFF)
                    data = head[:2] + struct.pack("!H", ~total & 0xFFFF) + data[4:]
                raw.sendto(data, (address, 0))
                want = struct.pack("!HH", identifier, sequence)
                while True:
                    got = raw.recv(65536)[0 if version == 6 else 20 :]
                    if got[0] in (0, 129) and got[4:8] == want:
                        break


def serve(address: str, port: int) -> None:
    tcp = socket.create_server((address, port), family=family(address), backlog=4096)
    udp = socket.socket(family(address), socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    udp.bind((address, port))
    waiting = selectors.DefaultSelector()
    for sock in (tcp, udp):
        waiting.register(sock, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in waiting.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if sock is tcp:
                peer, _ = tcp.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting.register(peer, selectors.EVENT_READ)
            elif sock is udp:
                data, sender = udp.recvfrom(65536)
                udp.sendto(data, sender)
            else:
                try:
                    data = sock.recv(65536)
                except ConnectionError:
                    data = b""
                if data:
                    sock.sendall(data)
                else:
                    waiting.unregister(sock)
                    sock.close()


def hold(kind: str, address: str, port: int, flows: int) -> None:
    socks = [opened(kind, address, port) for _ in range(flows)]
    while True:
        for sock in socks:
            sock.send(b"x" * 400)
            exactly(sock, 400)
        print("ready", flush=True)
        if not sys.stdin.readline():
            return


def abort(address: str, port: int, count: int) -> None:
    for _ in range(count):
        with opened("tcp", address, port) as sock:
            sock.send(b"x")
            exactly(sock, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def burst(address: str, port: int, count: int) -> None:
    with opened("udp", address, port) as sock:
        for _ in range(count):
            sock.send(b"x")
        time.sleep(1.5)
        sock.send(b"x")


def segments(address: str, port: int, count: int, size: int) -> None:
    with opened("udp", address, port) as sock:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        for _ in range(count):
            sock.send(bytes(SEGMENTS * size))


def sink(address: str, port: int, count: int) -> None:
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        sock.bind((address, port))
        print("ready", flush=True)
        sock.settimeout(ANSWER_SECONDS)
        total = sum(len(sock.recv(65536)) for _ in range(count))
    print(f"{count} {total}", flush=True)


def main(words: list[str]) -> None:
    Path("/proc/self/comm").write_text(f"talk-{words[0]}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    match words:
        case ["server", address, port]:
            serve(address, int(port))
        case ["tcp" | "udp" as kind, address, *numbers]:
            port, flows, rounds, size = map(int, numbers)
            echo(kind, address, port, flows, rounds, size)
        case ["icmp", address, *numbers]:
            first, flows, rounds, size = map(int, numbers)
            ping(address, first, flows, rounds, size)
        case ["hold", kind, address, port, flows]:
            hold(kind, address, int(port), int(flows))
        case ["abort", address, port, count]:
            abort(address, int(port), int(count))
        case ["burst", address, port, count]:
            burst(address, int(port), int(count))
        case ["segments", address, port, count, size]:
            segments(address, int(port), int(count), int(size))
        case ["sink", address, port, count]:
            sink(address, int(port), int(count))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
