"""The machine itself: its addresses, and the containers, units and processes behind its sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from pathlib import Path

from flowobs.batch import Endpoint
from flowobs.identity import cgroup, special
from flowobs.identity.cgroup_paths import CgroupPaths
from flowobs.identity.numbers import Reserved
from flowobs.identity.places import Places
from flowobs.identity.prefixes import Prefix, Prefixes
from flowobs.identity.source import BEGINNING, END, Answer, Claim, Socket
from flowobs.schema import EndpointKind

SOURCE = "host"
PROCESS = "Process"
_MAX_COMMANDS = 4096
_OTHER_COMMAND = "(other)"


class HostSource:
    """This machine, ``hostname``, with the addresses (16 bytes each) that ``addresses()`` gives.

    Loopback addresses are the machine's own. A socket belongs to a container or systemd unit by its
    cgroup, or else to its process by command name.
    """

    name = SOURCE
    age_s = 0

    def __init__(
        self,
        hostname: str,
        addresses: Callable[[], Set[bytes]],
        cgroups: CgroupPaths,
        *,
        hybrid: bool = False,
        proc: Path = Path("/proc"),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.hostname = hostname
        self.generation = 0
        self._me = Endpoint(
            EndpointKind.host,
            name=hostname,
            node=hostname,
            identity_source=SOURCE,
            identity=Reserved.host,
        )
        self._read_addresses = addresses
        self._addresses: Set[bytes] = frozenset()
        self._prefixes = Prefixes({})
        self._places = Places(cgroups, hybrid=hybrid, proc=proc)
        self._clock = clock
        self._commands: set[str] = set()

    def poll(self) -> None:
        """Take over changed addresses; look again for cgroups that were not there."""
        addresses = frozenset(self._read_addresses())
        if addresses != self._addresses:
            entries = {Prefix.of_address(a): self._me for a in addresses}
            first = not self._addresses  # none yet: interfaces are still being read
            self._prefixes = (
                Prefixes.always(entries)
                if first
                else self._prefixes.replaced(entries, self._clock())
            )
            self._addresses = addresses
            self.generation += 1
        if self._places.cgroups.retry():
            self.generation += 1

    def by_address(self, address: bytes, time_ns: int) -> Answer:
        if special.is_loopback(address):
            return Answer(self._me)
        return self._prefixes.at(address, time_ns)

    def explain(self, address: bytes, time_ns: int) -> list[Claim]:
        if special.is_loopback(address):
            reason = "a loopback address is this machine's own"
            return [Claim(SOURCE, address, self._me, BEGINNING, END, True, reason)]
        return self._prefixes.claims(SOURCE, address, time_ns)

    def explain_name(self, namespace: str | None, name: str, time_ns: int) -> list[Claim]:
        addresses = sorted(self._prefixes.called(namespace, name))
        return [claim for a in addresses for claim in self.explain(a, time_ns)]

    def by_socket(self, socket: Socket) -> Endpoint | None:
        place = self._places.place(socket)
        guest = place.kind == cgroup.CONTAINER and socket.command.startswith(cgroup.MONITORS)
        if place.kind == cgroup.GUEST or guest:
            return self._me._replace(
                kind=EndpointKind.vm,
                name=place.name,
                workload=place.name,
                workload_kind=cgroup.GUEST,
                container=place.name,
            )
        if place.kind == cgroup.CONTAINER:
            return self._me._replace(
                kind=EndpointKind.container,
                name=place.name,
                workload=place.name,
                workload_kind=place.kind,
                container=place.name,
            )
        if place.kind:
            return self._me._replace(workload=place.name, workload_kind=place.kind)
        if socket.command:
            return self._me._replace(workload=self._command(socket.command), workload_kind=PROCESS)
        return None

    def _command(self, command: str) -> str:
        """Anybody can make up command names, and each is kept for good: there is a limit."""
        if command not in self._commands:
            if len(self._commands) >= _MAX_COMMANDS:
                return _OTHER_COMMAND
            self._commands.add(command)
        return command
