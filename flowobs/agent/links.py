"""The network interfaces of one namespace, kept current through rtnetlink."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flowobs.agent import netlink, netns
from flowobs.identity import special

_DUMP_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface as the kernel shows it in the observed namespace."""

    ifindex: int
    name: str
    kind: str
    """The driver's kind: veth, bridge, vxlan ...; empty for hardware and loopback."""
    up: bool
    loopback: bool
    link_header: int | None
    """Bytes before the IP header: 14 of Ethernet, 0 on tun, WireGuard, PPP ...; None: another kind
    of frame."""
    master: int
    """ifindex of the bridge or bond it belongs to, 0 for none."""
    peer: int
    """ifindex of the other end of a veth, or of the link below; 0 for none."""
    peer_elsewhere: bool
    """The peer is in another network namespace: a pod's or container's host side."""
    addresses: frozenset[bytes]
    """Addresses set on it, 16 bytes each; IPv4 as ::ffff:a.b.c.d."""
    in_subnet: bool
    """One of them, link-local ones aside, is in a subnet whose others are reached by this link."""


class LinkEvent(NamedTuple):
    """What became of a link. A removed one comes with its last state."""

    change: Literal["added", "removed", "changed"]
    link: Link


class LinkMonitor:
    """Links and addresses of the namespace at ``namespace`` (None: this one).

    Sockets stay in the namespace they were made in, so after ``open`` any thread may call ``poll``.
    """

    def __init__(
        self, namespace: str | None = None, *, receive_buffer_bytes: int = 1 << 20
    ) -> None:
        self.namespace = namespace
        self.links: dict[int, Link] = {}
        """ifindex -> link; replaced, never changed in place."""
        self.overruns = 0
        self._receive_buffer_bytes = receive_buffer_bytes
        self._known: dict[int, netlink.LinkMessage] = {}
        self._addresses: dict[int, set[netlink.AddressMessage]] = {}
        self._monitor: socket.socket | None = None
        self._dump: socket.socket | None = None

    def open(self) -> list[LinkEvent]:
        """Start to listen and read what is there: an "added" event for each link.

        Raises OSError where the namespace cannot be entered or its links cannot be listed.
        """

        def sockets() -> tuple[socket.socket, socket.socket]:
            buffer = self._receive_buffer_bytes
            return (
                netlink.open_socket(monitor=True, receive_buffer_bytes=buffer),
                netlink.open_socket(monitor=False),
            )

        self._monitor, self._dump = netns.call(self.namespace, sockets)
        try:
            self._read_all()
        except BaseException:
            self.close()
            raise
        return self._publish(set())

    def close(self) -> None:
        for sock in (self._monitor, self._dump):
            if sock is not None:
                sock.close()
        self._monitor = self._dump = None

    def fileno(self) -> int:
        """The descriptor that becomes readable when ``poll`` has something to say."""
        return self._sockets()[0].fileno()

    def poll(self) -> list[LinkEvent]:
        """What changed since the last call, without waiting."""
        monitor, _ = self._sockets()
        replaced: set[int] = set()
        overrun = False
        while True:
            try:
                data = monitor.recv(1 << 17, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                overrun = True
                continue
            if not overrun:
                for message in netlink.messages(data):
                    self._apply(message, replaced)
        if overrun:
            # The kernel dropped messages, so the state we hold may be wrong anywhere.
            self.overruns += 1
            self._read_all()
        return self._publish(replaced)

    def local_addresses(self) -> dict[bytes, int]:
        """16-byte address -> ifindex, for every address of the namespace."""
        return {a: link.ifindex for link in self.links.values() for a in link.addresses}

    def _sockets(self) -> tuple[socket.socket, socket.socket]:
        if self._monitor is None or self._dump is None:
            raise RuntimeError("the link monitor is not open: call open() first")
        return self._monitor, self._dump

    def _read_all(self) -> None:
        _, dump = self._sockets()
        for attempt in range(_DUMP_ATTEMPTS):
            try:
                found = netlink.links_and_addresses(dump)
                break
            except netlink.DumpInterrupted:
                if attempt == _DUMP_ATTEMPTS - 1:
                    raise
        self._known.clear()
        self._addresses.clear()
        for message in found:
            self._apply(message, set())

    def _apply(self, message: netlink.Message, replaced: set[int]) -> None:
        if message.type in (netlink.NEWLINK, netlink.DELLINK):
            link = netlink.parse_link(message.body)
            if link is None:
                return
            if message.type == netlink.NEWLINK:
                self._known[link.ifindex] = link
            elif self._known.pop(link.ifindex, None) is not None:
                self._addresses.pop(link.ifindex, None)
                replaced.add(link.ifindex)
        elif message.type in (netlink.NEWADDR, netlink.DELADDR):
            address = netlink.parse_address(message.body)
            if address is None:
                return
            if message.type == netlink.NEWADDR:
                self._addresses.setdefault(address.ifindex, set()).add(address)
            else:
                self._addresses.get(address.ifindex, set()).discard(address)

    def _link(self, message: netlink.LinkMessage) -> Link:
        found = self._addresses.get(message.ifindex, set())
        return Link(
            **message._asdict(),
            addresses=frozenset(one.address for one in found),
            in_subnet=any(
                one.prefix < 128 and not special.is_link_local(one.address) for one in found
            ),
        )

    def _publish(self, replaced: set[int]) -> list[LinkEvent]:
        """Compare with what was told before; ``replaced`` went, even if their number is back."""
        before = self.links
        after = {i: self._link(message) for i, message in self._known.items()}
        self.links = after
        events: list[LinkEvent] = []
        for ifindex, link in before.items():
            if ifindex not in after or ifindex in replaced:
                events.append(LinkEvent("removed", link))
        for ifindex, link in after.items():
            if ifindex not in before or ifindex in replaced:
                events.append(LinkEvent("added", link))
            elif link != before[ifindex]:
                events.append(LinkEvent("changed", link))
        return events
