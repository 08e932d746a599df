"""Known traffic, run inside a namespace by ``ip netns exec``: stdlib only, bounded.

traffic.py server ADDRESS PORT
traffic.py client ADDRESS PORT COUNT UP DOWN [PARALLEL]
traffic.py frames INTERFACE SEED COUNT DST_MAC
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys


async def serve(address: str, port: int) -> None:
    """Each client sends two u32 (bytes up, bytes down) and that many bytes; gets its answer; the
    client closes.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up, down = struct.unpack("!II", await reader.readexactly(8))
            await reader.readexactly(up - 8)
            writer.write(b"d" * down)
            await reader.read()  # the client's FIN
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, address, port, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


async def connect(address: str, port: int, count: int, up: int, down: int, parallel: int) -> None:
    gate = asyncio.Semaphore(parallel)
    failed = 0

    async def one() -> None:
        nonlocal failed
        async with gate:
            try:
                reader, writer = await asyncio.open_connection(address, port)
                writer.write(struct.pack("!II", up, down) + b"u" * (up - 8))
                await reader.readexactly(down)
                writer.close()
                await writer.wait_closed()
            except (OSError, asyncio.IncompleteReadError):
                failed += 1

    await asyncio.gather(*(one() for _ in range(count)))
    print(f"done {count - failed} failed {failed}", flush=True)


def frames(seed: int, count: int, src_mac: bytes, dst_mac: bytes) -> list[bytes]:
    """Seeded frames, good and hostile: IPv4/IPv6, VLAN, options, fragments, cut headers, noise."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        body = rng.randbytes(rng.choice((0, 1, 8, 40, 400, 1200)))
        ports = struct.pack("!HH", rng.randrange(1024, 65536), rng.choice((9, 53, 80, 443)))
        proto = rng.choice((6, 17, 1, 132, 58, 47, rng.randrange(256)))
        l4 = (ports + rng.randbytes(16) + body)[: rng.choice((0, 3, 8, 20, 2000))]
        if rng.random() < 0.5:
            options = rng.choice((0, 0, 4, 40))
            head = struct.pack(
                "!BBHHHBBH4s4s",
                0x40 | (5 + options // 4),
                0,
                20 + options + len(l4),
                i & 0xFFFF,
                rng.choice((0, 0, 0, 0x2000, 0x00B9)),
                64,
                proto,
                0,
                bytes((10, 99, 0, 1)),
                bytes((10, 99, 0, 2)),
            ) + bytes(options)
            kind = 0x0800
        else:
            extension = b"".join(
                bytes((rng.choice((0, 43, 60, proto)), 0)) + bytes(6)
                for _ in range(rng.choice((0, 0, 1, 3, 9)))
            )
            head = struct.pack(
                "!IHBB", 0x60000000, len(extension) + len(l4), 60 if extension else proto, 64
            )
            head += socket.inet_pton(socket.AF_INET6, "fd00:99::1") + socket.inet_pton(
                socket.AF_INET6, "fd00:99::2"
            )
            head += extension
            kind = 0x86DD
        frame = head + l4
        if rng.random() < 0.1:
            frame = frame[: rng.randrange(len(frame) + 1)]
        link = (
            struct.pack("!HHH", 0x8100, 7, kind) if rng.random() < 0.2 else struct.pack("!H", kind)
        )
        if rng.random() < 0.05:
            link = struct.pack("!H", rng.randrange(0x0600, 0x10000))
        made.append((dst_mac + src_mac + link + frame).ljust(60, b"\0")[:1514])
    return made


def send(interface: str, seed: int, count: int, dst_mac: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        src = raw.getsockname()[4]
        for frame in frames(seed, count, src, bytes.fromhex(dst_mac.replace(":", ""))):
            raw.send(frame)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["server", address, port]:
            asyncio.run(serve(address, int(port)))
        case ["client", address, port, count, up, down, *parallel]:
            width = int(parallel[0]) if parallel else 20
            asyncio.run(connect(address, int(port), int(count), int(up), int(down), width))
        case ["frames", interface, seed, count, mac]:
            send(interface, int(seed), int(count), mac)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
