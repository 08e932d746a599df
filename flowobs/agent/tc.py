"""Two tc programs on one interface after another: TCX, or clsact filters on older kernels."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

from flowobs.agent import bpf, netlink
from flowobs.agent.links import Link

Method = Literal["auto", "tcx", "clsact"]


class Pair(NamedTuple):
    """Fds of the programs of either direction."""

    ingress: int
    egress: int


class TcHooks:
    """Programs on links of the calling thread's namespace; for one thread only.

    ``programs``: those for links with so many bytes of link header.
    """

    def __init__(self, programs: Mapping[int | None, Pair], method: Method) -> None:
        self.held: dict[int, list[int]] = {}
        """ifindex of each observed link -> fds that hold its programs; none with clsact."""
        self._programs = programs
        self._method = method
        self._queues: set[int] = set()  # links whose clsact queue we made
        self._sock = netlink.open_socket(monitor=False)

    def close(self) -> list[OSError]:
        """Detach from all links; what could not be removed."""
        failed = []
        for ifindex in list(self.held):
            try:
                self.detach(ifindex)
            except OSError as error:
                failed.append(error)
        self._sock.close()
        return failed

    def clean(self, ifindex: int) -> None:
        """Remove our filters, also those that an agent which died has left, and the queue below
        them if it was made for them and nobody else uses it. Raises OSError.
        """
        ours = ifindex in self._queues
        for egress in (False, True):
            bpf.detach_clsact(ifindex, egress)
            ours |= bpf.detach_clsact(ifindex, egress, bpf.CLSACT_OWN_QUEUE)
        self._queues.discard(ifindex)
        if ours:
            netlink.remove_clsact(self._sock, ifindex)

    def understands(self, link: Link) -> bool:
        """Whether there are programs for its kind of frames."""
        return link.link_header in self._programs

    def attach(self, link: Link) -> None:
        """Observe a link: both ways, but loopback on egress only, as its packets pass both hooks.

        Raises OSError; then nothing is left on the link.
        """
        pair = self._programs[link.link_header]
        held = self.held[link.ifindex] = []
        try:
            held += self._attach(pair.egress, link.ifindex, egress=True)
            if not link.loopback:
                held += self._attach(pair.ingress, link.ifindex, egress=False)
        except OSError:
            self.detach(link.ifindex)
            raise

    def detach(self, ifindex: int) -> None:
        """Leave a link as it was found. Raises OSError where the kernel keeps our filter."""
        self.forget(ifindex, keep_queue=True)
        if self._method == "clsact":
            self.clean(ifindex)

    def forget(self, ifindex: int, *, keep_queue: bool = False) -> None:
        """Drop what is held for a link that is gone."""
        for fd in self.held.pop(ifindex, ()):
            os.close(fd)
        if not keep_queue:
            self._queues.discard(ifindex)

    def _attach(self, program: int, ifindex: int, *, egress: bool) -> list[int]:
        if self._method != "clsact":
            try:
                return [bpf.attach_tcx(program, ifindex, egress)]
            except OSError as error:
                if self._method == "tcx" or error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                self._method = "clsact"  # a kernel before 6.6
        if netlink.add_clsact(self._sock, ifindex):
            self._queues.add(ifindex)
        handle = bpf.CLSACT_OWN_QUEUE if ifindex in self._queues else bpf.CLSACT_HANDLE
        bpf.attach_clsact(program, ifindex, egress, handle)
        return []
