"""Packets that come in by a real interface: a tap in a network namespace that nobody else sees."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import Future

from flowobs.agent import bpf

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 2, 0x1000


def receive(program: int, packets: Iterable[bytes]) -> int:
    """Have each packet come in by a tap, in order, with ``program`` at its tc ingress; the tap's
    number. Returns when all are through: the kernel handles them within the write.
    """
    done: Future[int] = Future()

    def run() -> None:
        try:
            done.set_result(_receive(program, packets))
        except BaseException as error:
            done.set_exception(error)

    # a thread of its own, since it never comes back from its namespace
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    return done.result()


def _receive(program: int, packets: Iterable[bytes]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot make a network namespace")
    tap = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"tap0", _IFF_TAP | _IFF_NO_PI))
        subprocess.run(["ip", "link", "set", "tap0", "up"], check=True)
        number = socket.if_nametoindex("tap0")
        link = bpf.attach_tcx(program, number, egress=False)
        try:
            for packet in packets:
                os.write(tap, packet)
        finally:
            os.close(link)
        return number
    finally:
        os.close(tap)
