"""Asks the sources of names in order; the first that knows wins."""

from __future__ import annotations

from collections.abc import Sequence

from flowobs.batch import Endpoint
from flowobs.identity import special
from flowobs.identity.source import BEGINNING, END, Answer, Claim, IdentitySource, Socket
from flowobs.schema import EndpointKind

SHARED_KINDS = frozenset(
    {
        EndpointKind.unknown,
        EndpointKind.node,
        EndpointKind.host,
        EndpointKind.vm,
        EndpointKind.world,
    }
)
"""Kinds whose addresses many processes can share: the socket's owner says which of them it was."""


class Resolver:
    """Names addresses and sockets from ``sources``, tried in their order."""

    def __init__(self, sources: Sequence[IdentitySource]) -> None:
        self.sources = tuple(sources)

    @property
    def generation(self) -> int:
        """Raised when answers given earlier have changed."""
        return sum(source.generation for source in self.sources)

    def ages(self) -> dict[str, int]:
        """Seconds by name of source, of those that may be out of date."""
        return {source.name: age for source in self.sources if (age := source.age_s)}

    def poll(self) -> None:
        """Let every source look for news. About once a second, from one thread at a time."""
        for source in self.sources:
            source.poll()

    def by_address(self, address: bytes, time_ns: int) -> Answer:
        """Who had ``address`` (16 bytes) at ``time_ns``; ``endpoint`` is never None.

        An address that no source knows is judged by its range (see
        :mod:`flowobs.identity.special`).
        """
        start, end = BEGINNING, END
        for source in self.sources:
            found = source.by_address(address, time_ns)
            # That an earlier source did not know holds for a while only, so the answer does too.
            start, end = max(start, found.start_ns), min(end, found.end_ns)
            if found.endpoint is not None:
                return Answer(found.endpoint, start, end)
        return Answer(special.by_address(address), start, end)

    def explain(self, address: bytes, time_ns: int) -> list[Claim]:
        """What each source says of ``address``; what is accepted is :meth:`by_address`'s answer."""
        said = [source.explain(address, time_ns) for source in self.sources]
        claims = self._believed(said)
        if not any(claim.accepted for claim in claims):
            by_itself = special.by_address(address)
            reason = "no source knows it: judged by its range alone"
            claims.append(Claim("", address, by_itself, BEGINNING, END, True, reason))
        return claims

    def explain_name(self, namespace: str | None, name: str, time_ns: int) -> list[Claim]:
        """The same of whoever is called that; of none if nobody is."""
        said = [source.explain_name(namespace, name, time_ns) for source in self.sources]
        return self._believed(said)

    @staticmethod
    def _believed(said: list[list[Claim]]) -> list[Claim]:
        """Of each address, what the first source says that knows it."""
        claims: list[Claim] = []
        winners: dict[bytes | None, str] = {}
        for mine in said:
            for claim in mine:
                before = winners.get(claim.address)
                if claim.accepted and before is not None:
                    reason = f"{before} knows it and is asked first"
                    claim = claim._replace(accepted=False, reason=reason)
                elif claim.accepted and claim.endpoint and claim.endpoint.kind in SHARED_KINDS:
                    reason = f"{claim.reason}; its sockets are told apart by their owners"
                    claim = claim._replace(reason=reason)
                claims.append(claim)
            winners |= {
                c.address: c.source for c in mine if c.accepted and c.address not in winners
            }
        return claims

    def by_socket(self, base: Endpoint, socket: Socket) -> Endpoint:
        """``base``, a shared address's endpoint, told apart by the owner of the local socket."""
        for source in self.sources:
            who = source.by_socket(socket)
            if who is not None:
                return _told_apart(base, who)
        return base


def _told_apart(base: Endpoint, who: Endpoint) -> Endpoint:
    if base.kind == EndpointKind.pod:
        same = (who.namespace, who.name) == (base.namespace, base.name)
        # a tool of the host's in a pod's network is not one of its containers
        return base._replace(container=who.container) if same else base
    if who.kind == EndpointKind.pod:
        return who
    if who.kind in (EndpointKind.container, EndpointKind.vm):
        return who._replace(cluster=base.cluster, node=base.node or who.node, zone=base.zone)
    if not base.identity_source:
        return who
    if base.workload:
        return base  # a group that somebody wrote down says more than a process
    return base._replace(workload=who.workload, workload_kind=who.workload_kind)
