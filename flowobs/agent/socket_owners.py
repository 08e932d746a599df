"""Whose sockets are, from the probes' maps, their iterator, and /proc where there is none."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowobs.agent import bpf, sockets
from flowobs.agent.bound import BoundSockets
from flowobs.agent.loader import Probes
from flowobs.agent.owners import OwnerTable, command_text
from flowobs.agent.records import OWNER, SOCKET_OWNER
from flowobs.agent.scope import Scope
from flowobs.agent.vantage import Link
from flowobs.identity.source import Socket

_log = logging.getLogger(__name__)


class SocketOwners:
    """Owners of the machine's sockets, in ``table``. ``netns`` and ``links`` are the observed
    namespace and its interfaces, ``mount`` that of cgroup v2.
    """

    def __init__(
        self,
        probes: Probes,
        links: Callable[[], Mapping[int, Link]],
        *,
        netns: int,
        scope: Scope | None,
        mount: Path | None,
    ) -> None:
        self._probes = probes
        self._mount = mount
        self._iterator = -1

        def listings() -> dict[int, sockets.Listing]:
            inside = {
                inode: path
                for inode, path in sockets.namespaces().items()
                if scope is None or inode in scope
            }
            return sockets.listings(inside, bound=True)

        self._bound = BoundSockets(listings, links, netns=netns)
        if "socket_owners" in probes.programs:
            self._iterator = bpf.attach_iterator(probes.programs["socket_owners"])
            self._list, rest = self._all_sockets, 10.0
        else:
            # through every open file of the machine: rarely, then
            self._list, rest = self._search_sockets, 100.0
        self.table = OwnerTable(self._owners_of, self._list, rest=rest, bound=self._bound)

    def note_older(self) -> None:
        """Sockets that were here before us: none of their hooks will tell of them."""
        self._bound.read()
        if self._iterator >= 0:
            self._all_sockets()  # marks the listeners
        elif (owners := self._probes.maps.get("owners")) is not None:
            for row in self._search_sockets():
                with contextlib.suppress(OSError):  # its own hook was faster
                    bpf.update(owners, row["cookie"], row["owner"], bpf.BPF_NOEXIST)

    def find(self, cookie: int) -> Socket | None:
        """A socket of this machine: who holds it, or held it at last, while that is noted."""
        (found,), (noted,) = self._owners_of(np.array([cookie], np.uint64))
        listed = self._list()
        holders = listed["owner"][listed["cookie"] == cookie]
        if len(holders):  # of several, who made it
            who = holders[np.argmax(holders["pid"] == noted["pid"])]
        elif found and not noted["inherited"]:
            who = noted
        else:
            return None
        return Socket(int(who["cgroup"]), int(who["pid"]), command_text(who["comm"].tobytes()))

    def close(self) -> None:
        if self._iterator >= 0:
            os.close(self._iterator)

    def _owners_of(self, cookies: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.void]]:
        owners = np.zeros(len(cookies), OWNER.dtype)
        map_fd = self._probes.maps.get("owners")
        if map_fd is None:
            return np.zeros(len(cookies), np.bool_), owners
        return bpf.lookup_each(map_fd, np.ascontiguousarray(cookies), owners), owners

    def _all_sockets(self) -> NDArray[np.void]:
        rows: NDArray[np.void] = np.frombuffer(
            bpf.read_iterator(self._iterator), SOCKET_OWNER.dtype
        )
        return rows

    def _search_sockets(self) -> NDArray[np.void]:
        try:
            return sockets.owners(self._mount)
        except OSError as error:
            _log.warning("no owners of older sockets", extra={"why": str(error)})
            return np.zeros(0, SOCKET_OWNER.dtype)
