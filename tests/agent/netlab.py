"""Two network namespaces of our own, joined by a veth pair, for tests of the agent's runtime."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np

_SO_COOKIE = 57
NEAR, FAR = "10.98.0.1", "10.98.0.2"


def in_private_netns(work: Callable[[], None]) -> None:
    """In a thread of its own."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            assert ctypes.CDLL(None).unshare(0x40000000) == 0
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def cookie(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)


def sh(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class NetLab:
    """``near`` has ``v0`` (10.98.0.1) and is the one observed, ``far`` has ``v1`` (10.98.0.2)."""

    def __init__(self) -> None:
        tag = f"fo{os.getpid()}-{time.monotonic_ns() % 10_000}"
        self.near, self.far = f"{tag}-n", f"{tag}-f"
        self.path = f"/run/netns/{self.near}"

    def __enter__(self) -> NetLab:
        near, far = self.near, self.far
        sh(f"ip netns add {near} && ip netns add {far}")
        try:
            # no IPv6: its chatter would make counts depend on timing
            sh(
                f"for n in {near} {far}; do ip netns exec $n"
                " sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip -n $n link set lo up; done"
                f" && ip -n {near} link add v0 type veth peer name v1 netns {far}"
                f" && ip -n {near} addr add {NEAR}/24 dev v0 && ip -n {near} link set v0 up"
                f" && ip -n {far} addr add {FAR}/24 dev v1 && ip -n {far} link set v1 up"
            )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "del", name], check=False)

    def ip(self, arguments: str) -> str:
        """``ip`` in the observed namespace."""
        return sh(f"ip -n {self.near} {arguments}")

    def python(self, code: str, *, far: bool = False) -> str:
        """Run a script inside a namespace."""
        name = self.far if far else self.near
        command = ["ip", "netns", "exec", name, sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, code: str) -> subprocess.Popen[str]:
        """A server in the far namespace; returns once it has printed a line."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.far, sys.executable, "-uc", code],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def connections(self) -> str:
        """Those of the observed namespace that one end at least has not closed."""
        return sh(f"ip netns exec {self.near} ss -tnH exclude time-wait")

    def counters(self, name: str = "v0") -> np.ndarray:
        """[packets, bytes] both ways that the kernel has counted on a link, without ARP's share."""
        stats = json.loads(self.ip(f"-s -j link show {name}"))[0]["stats64"]
        return np.array([stats["rx"][n] + stats["tx"][n] for n in ("packets", "bytes")])


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
