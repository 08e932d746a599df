"""Puts names on decoded records: both ends, reporter, interface, node and the sockets' owners."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowobs.agent.decode import Decoded
from flowobs.agent.nat import Nat
from flowobs.agent.owners import OwnerTable
from flowobs.agent.vantage import Link, Vantage
from flowobs.batch import Endpoints, FlowBatch, is_nothing, writable
from flowobs.identity.addresses import (
    LOCAL,
    LOOPBACK,
    NAMED,
    NAMELESS,
    SHARED,
    AddressTable,
)
from flowobs.identity.resolver import Resolver
from flowobs.identity.sharers import SharerTable
from flowobs.identity.source import Socket
from flowobs.schema import EndpointKind, Kind, Reporter

Array = NDArray[Any]

# numpy compares with its own numbers many times faster than with an enum's
_SOURCE, _DESTINATION = np.uint8(Reporter.source), np.uint8(Reporter.destination)
_LOST = np.uint8(Kind.lost)


class Links(Protocol):
    """The interfaces of the observed namespace by ifindex; the mapping is replaced on change."""

    @property
    def links(self) -> Mapping[int, Link]: ...


class Enricher:
    """Names the records of one agent, called ``node``. Not for more than one thread.

    ``netns``: inode of the namespace whose interfaces ``links`` are. ``scope``: inodes of the
    observed network namespaces where only those are observed, None where all of the machine is.
    Records from elsewhere are then left out (``out_of_scope`` counts). Where the kernel did not
    know the namespace, a record stays if an inventory or cluster names one of its addresses or it
    is one of the observed namespace's own. ``nat`` knows who is behind translated addresses.
    """

    def __init__(
        self,
        node: str,
        resolver: Resolver,
        owners: OwnerTable,
        links: Links,
        *,
        netns: int = 0,
        scope: Container[int] | None = None,
        nat: Nat | None = None,
    ) -> None:
        self.node = node
        self.out_of_scope = 0
        self._resolver = resolver
        self._owners = owners
        self._links = links
        self._netns = netns
        self._scope = scope
        self._nat = nat
        self._addresses = AddressTable(resolver)
        self._sharers = SharerTable(resolver)
        self._vantage = Vantage(resolver)
        self._local: frozenset[bytes] = frozenset()
        self._seen_links: Mapping[int, Link] | None = None
        self._seen_endpoints: Endpoints | None = None
        self._seen_generation = -1
        self._seen_owners = -1
        self._served: dict[tuple[int, int], int] = {}

    def enrich(self, decoded: Decoded) -> FlowBatch:
        """The records with names, without those out of scope. Columns may change in place."""
        return self.named(decoded)[0].batch

    @property
    def generation(self) -> int:
        """Raised when a record may get another name than before."""
        return self._resolver.generation

    def named(self, decoded: Decoded) -> tuple[Decoded, NDArray[np.bool_]]:
        """Like :meth:`enrich`; and whose near end nobody can name (yet), bool of shape (n,).

        Records that have been here before may come again.
        """
        # Interface numbers of other namespaces mean nothing here.
        elsewhere = (decoded.netns != 0) & (decoded.netns != self._netns)
        abroad = np.count_nonzero(elsewhere)
        if abroad:
            decoded.ifindex[elsewhere] = 0
        if self._nat is not None:
            self._nat.translate(decoded.batch)
        self._renew(decoded.batch.endpoints)
        columns = decoded.batch.columns
        ends = self._addresses.lookup(
            np.concatenate((columns["src_ip"], columns["dst_ip"])),
            np.concatenate((columns["time"], columns["time"])),
            decoded.batch.endpoints,
            self._local,
        )
        rows, flags = ends.rows.reshape(2, -1), ends.flags.reshape(2, -1)
        if self._nat is not None:
            self._name_service(decoded.batch, rows[1])
        if self._scope is not None:
            inside = self._inside(self._scope, decoded, flags)
            if not inside.all():
                self.out_of_scope += int(np.count_nonzero(~inside))
                decoded = Decoded(
                    decoded.batch.select(inside),
                    decoded.ifindex[inside],
                    decoded.egress[inside],
                    decoded.netns[inside],
                )
                rows, flags = rows[:, inside], flags[:, inside]
                elsewhere = elsewhere[inside]
        batch = decoded.batch
        columns, strings = batch.columns, batch.endpoints.strings
        owned = self._tell_apart(batch, rows, flags, self._owners.fill(batch))
        if abroad:
            self._name_elsewhere(batch, rows, elsewhere & ((flags & LOOPBACK) != 0), owned)
        columns["src_endpoint"], columns["dst_endpoint"] = rows
        columns["node"] = np.full(len(batch), strings.id(self.node), np.uint32)
        local = (flags & LOCAL) != 0
        self._vantage.see(columns, decoded.ifindex, decoded.egress, local, strings)
        self._tell_ages(batch)
        return decoded, self._nameless(columns, decoded.ifindex, flags)

    def _tell_ages(self, batch: FlowBatch) -> None:
        ages = self._resolver.ages()
        for source, age in ages.items():
            name = batch.endpoints.strings.find(source)
            for side in ("src", "dst") if name is not None else ():
                mine = batch[f"{side}_identity_source"] == name
                if mine.any():
                    writable(batch.columns, f"{side}_identity_age")[mine] = age

    @staticmethod
    def _nameless(columns: dict[str, Array], ifindex: Array, flags: Array) -> NDArray[np.bool_]:
        unknown = (flags & NAMELESS) != 0
        near = np.zeros(len(ifindex), np.bool_)
        if np.count_nonzero(unknown):
            reporter = columns["reporter"]
            near = unknown[0] & (reporter == _SOURCE)
            near |= unknown[1] & (reporter == _DESTINATION)
            near &= ifindex != 0
        return near

    def _renew(self, endpoints: Endpoints) -> None:
        """Forget answers that may no longer be true."""
        links, generation = self._links.links, self._resolver.generation
        renamed = endpoints is not self._seen_endpoints or generation != self._seen_generation
        relinked = links is not self._seen_links
        local = self._local
        if relinked:
            local = frozenset[bytes]().union(*(link.addresses for link in links.values()))
        if renamed or local != self._local:
            self._addresses.clear()
        if renamed:
            self._sharers.clear()
            self._served.clear()
        if renamed or relinked:
            self._vantage.clear(links)
        self._seen_links, self._local = links, local
        self._seen_endpoints, self._seen_generation = endpoints, generation

    def _name_service(self, batch: FlowBatch, rows: Array) -> None:
        """The service of a backend (``rows``) that was asked for by address is that very one."""
        columns, endpoints = batch.columns, batch.endpoints
        if is_nothing(columns["virtual_ip"]):
            return
        high, low = columns["virtual_ip"].view("<u8").T
        at = (high | low).nonzero()[0]
        if not at.size:
            return
        asked = self._addresses.lookup(
            columns["virtual_ip"][at], columns["time"][at], endpoints, self._local
        ).rows
        pairs, inverse = np.unique(np.stack((rows[at], asked)), axis=1, return_inverse=True)
        served = [self._serving(who, service, endpoints) for who, service in pairs.T.tolist()]
        rows[at] = np.array(served, np.uint32)[inverse.reshape(-1)]

    def _serving(self, backend: int, asked: int, endpoints: Endpoints) -> int:
        """The endpoint row of ``backend`` where ``asked`` was asked for."""
        found = self._served.get((backend, asked))
        if found is None:
            who, service = endpoints[backend], endpoints[asked]
            if service.kind == EndpointKind.service and who.identity_source:
                who = who._replace(service=service.service)
            found = self._served[backend, asked] = endpoints.id(who)
        return found

    @staticmethod
    def _inside(scope: Container[int], decoded: Decoded, flags: Array) -> Array:
        netns = decoded.netns
        # an interface is of the observed namespace; a record of loss is nowhere but ours
        ours: Array = (decoded.ifindex != 0) | (decoded.batch.columns["kind"] == _LOST)
        if ours.all():
            return ours
        told = netns[netns != 0]
        for inode in np.unique(told).tolist() if told.size else ():
            if inode in scope:
                ours |= netns == inode
        # the kernel does not always know the namespace; then an address that we know must do
        either = flags[0] | flags[1]
        known = ((either & (NAMED | LOCAL)) != 0) & ((either & LOOPBACK) == 0)
        inside: Array = ours | (known & (netns == 0))
        return inside

    def _tell_apart(self, batch: FlowBatch, rows: Array, flags: Array, owners: Array) -> Array:
        """Replace ``rows`` of addresses that many can share by those of the sockets' owners.

        Returns which ends have an owner, bool of shape (2, n).
        """
        if self._owners.generation != self._seen_owners:
            self._seen_owners = self._owners.generation
            self._sharers.clear()
        owned: Array = owners != 0
        cgroups = batch.columns["src_cgroup"], batch.columns["dst_cgroup"]
        for end, cgroup in enumerate(cgroups):
            if not is_nothing(cgroup):
                owned[end] |= cgroup != 0
        at = ((flags & SHARED) * owned).reshape(-1).nonzero()[0]
        if at.size:
            who = owners.take(at), np.concatenate(cgroups).take(at)
            rows.put(at, self._sharers.lookup(rows.take(at), *who, batch.endpoints, self._socket))
        return owned

    @staticmethod
    def _name_elsewhere(batch: FlowBatch, rows: Array, loopback: Array, owned: Array) -> None:
        """A loopback address of another namespace is not this host's. Both ends are in one pod, if
        the one whose socket is known is in one; of which container the other is, nobody knows.
        """
        end, at = np.nonzero(loopback & ~owned)
        near = np.where(owned[1 - end, at], rows[1 - end, at], 0)
        distinct, inverse = np.unique(near, return_inverse=True)
        endpoints = batch.endpoints
        told = np.zeros(len(distinct), np.uint32)
        for i, row in enumerate(distinct.tolist()):
            who = endpoints[row]
            if who.kind == EndpointKind.pod:
                told[i] = endpoints.id(who._replace(container=""))
        rows[end, at] = told[inverse]

    def _socket(self, owner: int, cgroup: int) -> Socket:
        return Socket(cgroup, self._owners.pid(owner), self._owners.command(owner))
