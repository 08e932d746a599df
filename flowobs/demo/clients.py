"""The demo's clients: a seeded, bounded mix of good and bad traffic.

Run in their namespaces: `python -m flowobs.demo.clients laptop|batch`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException

from flowobs.demo import plan

TIMEOUT_S = 2.0
ECHO_REQUEST, ECHO_REQUEST_V6 = 8, 128
Action = Callable[[], None]


def address(name: str, family: socket.AddressFamily) -> str:
    """The host's address, asked from the demo's DNS."""
    return str(socket.getaddrinfo(f"{name}.{plan.DOMAIN}", None, family)[0][4][0])


def get(name: str, port: int, path: str, family: socket.AddressFamily) -> None:
    connection = HTTPConnection(address(name, family), port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Host": f"{name}.{plan.DOMAIN}"})
        connection.getresponse().read()
    finally:
        connection.close()


def connect(name: str, port: int) -> None:
    with socket.create_connection((address(name, socket.AF_INET), port), TIMEOUT_S):
        pass


def resolve_nothing() -> None:
    address("no-such-host", socket.AF_INET)


def ping(name: str, family: socket.AddressFamily) -> None:
    """One echo request, and its answer. The kernel fills in identifier and checksum."""
    v6 = family == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    kind = ECHO_REQUEST_V6 if v6 else ECHO_REQUEST
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.sendto(struct.pack("!BxHHH", kind, 0, 0, 1) + b"flowobs", (address(name, family), 0))
        sock.recv(256)


def laptop(choose: random.Random) -> list[tuple[float, Action]]:
    """What the laptop does, and how often: pages over both IP versions, some broken, and a ping."""

    def page() -> None:
        path = choose.choices(["/orders", "/fail", "/missing"], [8, 1, 1])[0]
        family = choose.choice([socket.AF_INET, socket.AF_INET6])
        get("web", plan.HTTP_PORT, path, family)

    return [(9, page), (1, lambda: ping("web", socket.AF_INET6))]


def batch(choose: random.Random) -> list[tuple[float, Action]]:
    """What the batch job does: it reads orders over IPv6, and its settings are out of date."""
    return [
        (5, lambda: get("api", plan.API_PORT, "/orders", socket.AF_INET6)),
        (2, lambda: connect("redis", plan.REFUSED_PORT)),
        (2, lambda: connect(plan.PARTNER, plan.PARTNER_PORT)),
        (1, resolve_nothing),
        (1, lambda: ping("redis", socket.AF_INET)),
    ]


ROLES = {"laptop": (laptop, 6.0), "batch": (batch, 5.0)}
"""Role: its actions, and how many of them a second at most."""


def run(role: str, seed: int) -> None:
    """Acts forever, one thing at a time; what fails is part of the show."""
    choose = random.Random(f"{seed} {role}")
    actions, rate = ROLES[role]
    weights, steps = zip(*actions(choose), strict=True)
    # each thing once at the start, so that a short run has seen everything
    queue: list[Action] = [*steps, *steps]
    while True:
        step = queue.pop() if queue else choose.choices(steps, weights)[0]
        with contextlib.suppress(OSError, HTTPException):
            step()
        time.sleep(choose.uniform(0.5, 1.5) / rate)


def main() -> None:
    parser = argparse.ArgumentParser(prog="flowobs.demo.clients")
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    run(arguments.role, arguments.seed)


if __name__ == "__main__":
    main()
