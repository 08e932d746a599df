"""Kernel structs -> FlowBatch, by whole columns: who opened a flow becomes its source."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowobs.agent.drain import CounterDeltas
from flowobs.agent.members import Pairs, copied, told, with_rows
from flowobs.agent.records import CLOSER, FLOW_KEY, FLOW_STATE, RECORD_VERSION
from flowobs.agent.tunnels import Tunnels
from flowobs.batch import RECORD_TYPES, Endpoints, FlowBatch, Strings, is_nothing, writable
from flowobs.schema import Cast, CloseReason, Kind, Protocol, Verdict

Array = NDArray[Any]

_IS_ICMP = np.zeros(256, np.bool_)
_IS_ICMP[[Protocol.icmp, Protocol.icmpv6]] = True
_IS_EVENT = np.zeros(256, np.bool_)
_IS_EVENT[[Kind.open, Kind.close, Kind.drop, Kind.retransmit, Kind.reset, Kind.fail]] = True
_IS_EVENT[Kind.icmp_error] = True
# numpy compares with its own numbers many times faster than with an enum's
_CLOSE, _UPDATE = np.uint8(Kind.close), np.uint8(Kind.update)
_RARE = np.array([Kind.drop, Kind.fail, Kind.close, Kind.icmp_error], np.uint8)
_VERDICTS = np.full(256, Verdict.forwarded, np.uint8)
"""Kind of an event -> Verdict."""
_VERDICTS[Kind.drop] = Verdict.dropped
_VERDICTS[[Kind.fail, Kind.icmp_error]] = Verdict.error
_KEY_PAIRS = np.dtype(
    [("ip", "V16", 2), ("port", "<u2", 2), ("rest", f"V{FLOW_KEY.dtype.itemsize - 36}")]
)
"""FLOW_KEY with addresses and ports as pairs."""
_END_COLUMNS = {
    **{name: (name, f"reply_{name}") for name in ("packets", "bytes", "tcp_flags", "zero_windows")},
    **{name: (f"src_{name}", f"dst_{name}") for name in ("rtt_ns", "srtt_us")},
}
"""Pairs of FLOW -> the columns of source and destination."""
_COUNTED = {name for pair in _END_COLUMNS.values() for name in pair}
_COUNTED |= {"duration", "close_reason", "connect_ns"}
_OPEN_LATE = FLOW_STATE["FLOW_OPEN_LATE"][0]
_CLOSED_BEFORE = FLOW_STATE["FLOW_CLOSED_BEFORE"][0]
_BROADCAST = FLOW_STATE["FLOW_BROADCAST"][0]
_CORE_REASONS = 1 << 16
"""Drop reasons from here on belong to subsystems, which have the upper half of the number."""

LOSSES = {
    "ring_full": "event_lost",
    "interrupted": "missed_run",
    "held_full": "held_full",
    "retransmits_full": "retransmits_full",
}
"""Why records of kind lost are made -> the programs' counter of how many."""

_CLOSE_REASONS = np.zeros((256, 2), np.uint8)
"""[CLOSER_*, initiator] -> CloseReason; numbers the probes do not know stay "none"."""
for _closer, _a_is_source, _b_is_source in (
    ("CLOSER_FIN_A", CloseReason.fin_source, CloseReason.fin_destination),
    ("CLOSER_FIN_B", CloseReason.fin_destination, CloseReason.fin_source),
    ("CLOSER_RST_A", CloseReason.reset_source, CloseReason.reset_destination),
    ("CLOSER_RST_B", CloseReason.reset_destination, CloseReason.reset_source),
):
    _CLOSE_REASONS[CLOSER[_closer][0]] = _a_is_source, _b_is_source
_CLOSE_REASONS[CLOSER["CLOSER_TIMEOUT"][0]] = CloseReason.timeout
_CLOSE_REASONS[CLOSER["CLOSER_UNREACHABLE"][0]] = CloseReason.unreachable

_FAIL_REASONS = np.full(256, CloseReason.aborted, np.uint8)
"""errno of a connection attempt -> CloseReason."""
_FAIL_REASONS[errno.ECONNREFUSED] = CloseReason.refused
_FAIL_REASONS[errno.ETIMEDOUT] = CloseReason.timeout
# what ICMP errors are to a socket: icmp_err_convert of net/ipv4, tab_unreach of net/ipv6
_FAIL_REASONS[[errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN]] = CloseReason.unreachable
_FAIL_REASONS[[errno.ENONET, errno.ENOPROTOOPT, errno.EACCES]] = CloseReason.unreachable


class Decoded(NamedTuple):
    """Records without names, and what it takes to name them: columns as long as the batch."""

    batch: FlowBatch
    """``interface``, ``reporter``, ``node``, process names and endpoints are still empty."""
    ifindex: NDArray[np.uint32]
    """Interface of the observation point, 0 where none is known."""
    egress: NDArray[np.bool_]
    """Packets from source to destination left by the interface: on a pod's veth the destination is
    behind it. False: they came in, the source is behind it. Means nothing where ifindex is 0."""
    netns: NDArray[np.uint32]
    """Inode of the network namespace, 0 = the observed one, that of the interface."""


class Decoder:
    """Turns kernel records into batches of one endpoint table.

    ``drop_reasons`` are the running kernel's names of reasons (``Btf.drop_reasons``).
    """

    def __init__(self, endpoints: Endpoints, drop_reasons: Mapping[int, str]) -> None:
        self.endpoints = endpoints
        """May be replaced between two calls."""
        self._unknown = 0
        self._tunnels = Tunnels()
        self._drop_reasons = drop_reasons
        self._reason_strings: Strings | None = None
        self._reason_ids = np.zeros(0, np.uint32)

    def flows(
        self, keys: Array, flows: Array, offset_ns: int, retransmits: Array | None = None
    ) -> Decoded:
        """Drained flows, dtypes FLOW_KEY and FLOW, shape (n,): one update or close each.

        Flows whose open event found the ring full get an extra open record, at the end.
        ``retransmits``, shape (n, 2): segments that a and b have sent again.
        ``offset_ns`` takes CLOCK_MONOTONIC to UTC.
        """
        bits = told(flows)
        rows = len(keys)
        opened = np.zeros(0, np.intp)
        if bits["state"] & _OPEN_LATE:
            opened = (flows["state"] & _OPEN_LATE).nonzero()[0]
            keys, flows = with_rows(keys, opened), with_rows(flows, opened)
        key_bits = told(keys)
        if key_bits["tunnel"]:
            self._tunnels.learn(keys[:rows], flows[:rows])
        initiator = flows["initiator"] & 1
        ends = Pairs(flows, initiator, bits)
        decoded = self._oriented(keys, key_bits, ends)
        columns = decoded.batch.columns
        columns["verdict"] = np.full(len(keys), Verdict.forwarded, np.uint8)
        columns["time"] = _utc(flows["last_ns"], offset_ns)
        # The clock of a flow's packets is read before the flow is looked up, so that two CPUs may
        # leave a last packet that is older than the first one.
        columns["duration"] = np.maximum(flows["last_ns"], flows["start_ns"]) - flows["start_ns"]
        for name, (source, destination) in _END_COLUMNS.items():
            if any(bits[name]):
                columns[source], columns[destination] = ends.sides(name)
        if bits["connect_ns"]:
            columns["connect_ns"] = flows["connect_ns"].copy()
        if retransmits is not None and retransmits.any():
            back = initiator[:rows].astype(np.bool_)
            a, b = retransmits.T
            writable(columns, "retransmits")[:rows] = np.where(back, b, a)
            writable(columns, "reply_retransmits")[:rows] = np.where(back, a, b)
        if key_bits["tunnel"]:
            self._unwrap(columns, flows, initiator)
        columns["kind"] = np.full(len(keys), _UPDATE)
        if bits["closer"] or all(bits["fin"]):
            closed = _closed(flows).nonzero()[0]
            columns["kind"][closed] = _CLOSE
            closers = flows["closer"][closed], initiator[closed]
            writable(columns, "close_reason")[closed] = _CLOSE_REASONS[closers]
        if len(opened):
            self._make_open(columns, slice(rows, None), _utc(flows["start_ns"][rows:], offset_ns))
        return decoded

    def events(self, events: Array, offset_ns: int) -> Decoded:
        """Ring records, dtype EVENT, shape (n,), in order. ``offset_ns`` as above."""
        kind = events["kind"].copy()
        known = (events["version"] == RECORD_VERSION) & _IS_EVENT.take(kind)
        if not known.all():
            self._unknown += int(len(events) - known.sum())
            events = events[known]
            kind = kind[known]
        bits = told(events)
        keys = copied(events["key"])
        initiator = events["initiator"] & 1
        ends = Pairs(events, initiator, bits)
        decoded = self._oriented(keys, bits["key"], ends)
        columns = decoded.batch.columns
        if bits["netns"]:
            decoded.netns[:] = columns["netns"] = events["netns"].copy()
        reply = columns["reply"] = (events["direction"] & 1) ^ initiator
        columns["time"] = _utc(events["time_ns"], offset_ns)
        columns["kind"] = kind
        if bits["held"]:
            columns["lost"] = events["held"].astype(np.uint64)
        columns["tcp_flags"], columns["reply_tcp_flags"] = ends.sides("tcp_flags")
        if bits["pid"]:
            # The hook ran in the process of the end that sent.
            columns["src_pid"] = np.where(reply, 0, events["pid"])
            columns["dst_pid"] = np.where(reply, events["pid"], 0)
        columns["verdict"] = _VERDICTS.take(kind)
        dropped, failed, closed, quoted = ((kind == one).nonzero()[0] for one in _RARE)
        if quoted.size:
            writable(columns, "icmp_ip")[quoted] = events["cgroup"][quoted].view("u1")
            for end in ("src_cgroup", "dst_cgroup"):
                writable(columns, end)[quoted] = 0
            writable(columns, "icmp_type")[quoted] = events["reason"][quoted] >> 8 & 0xFF
            writable(columns, "icmp_code")[quoted] = events["reason"][quoted] & 0xFF
        if closed.size:
            closers = events["closer"][closed], initiator[closed]
            writable(columns, "close_reason")[closed] = _CLOSE_REASONS[closers]
        if failed.size:
            reasons = np.minimum(events["reason"][failed], len(_FAIL_REASONS) - 1)
            writable(columns, "close_reason")[failed] = _FAIL_REASONS[reasons]
        if bits["key"]["tunnel"]:  # a close without packets of its own
            self._unwrap(columns, self._tunnels.of(keys), initiator)
        if dropped.size:
            writable(columns, "drop_reason")[dropped] = self._reasons(events["reason"][dropped])
        return decoded

    def take_unknown(self) -> int:
        """Events dropped since the last call, because their version or kind is not known here."""
        unknown, self._unknown = self._unknown, 0
        return unknown

    def losses(self, deltas: CounterDeltas, now_ns: int) -> Decoded | None:
        """Records of kind "lost" for what the programs could not tell; None where they told all.

        ``map_full`` rows carry the packets and bytes that no flow holds, one row for each protocol
        and hook side. ``now_ns`` is UTC.
        """
        overflow = deltas.overflow
        lost = {reason: deltas.stats[counter][0] for reason, counter in LOSSES.items()}
        lost = {reason: number for reason, number in lost.items() if number}
        full_rows = len(overflow.proto)
        rows = full_rows + len(lost)
        if not rows:
            return None
        batch = FlowBatch.zeros(rows, self.endpoints)
        columns = batch.columns
        strings = self.endpoints.strings
        columns["time"][:] = now_ns
        columns["kind"][:] = Kind.lost
        columns["drop_reason"][:full_rows] = strings.id("map_full")
        columns["proto"][:full_rows] = overflow.proto
        columns["lost"][:full_rows] = columns["packets"][:full_rows] = overflow.packets
        columns["bytes"][:full_rows] = overflow.bytes
        columns["drop_reason"][full_rows:] = [strings.id(reason) for reason in lost]
        columns["lost"][full_rows:] = list(lost.values())
        nowhere = np.zeros(rows, np.uint32)
        return Decoded(batch, nowhere, np.zeros(rows, np.bool_), nowhere)

    def _oriented(self, keys: Array, bits: np.void, ends: Pairs) -> Decoded:
        """What events and flows share: the key, of which ``bits`` are set in any, and the sockets.

        Other columns are shared zeros.
        """
        initiator = ends.swap
        batch = FlowBatch.zeros(len(keys), self.endpoints, shared=RECORD_TYPES)
        columns = batch.columns
        places = Pairs(keys.view(_KEY_PAIRS), initiator, bits)
        for side, address in zip(("src", "dst"), places.sides("ip"), strict=True):
            columns[f"{side}_ip"] = address.view(np.uint8).reshape(-1, 16)
        columns["src_port"], columns["dst_port"] = places.sides("port")
        for name in ("cookie", "cgroup"):
            if any(ends.bits[name]):
                columns[f"src_{name}"], columns[f"dst_{name}"] = ends.sides(name)
        columns["proto"] = keys["proto"].copy()
        for name in ("vlan", "tunnel"):
            if bits[name]:
                columns[name] = keys[name].copy()
        if bits["icmp"]:
            icmp = _IS_ICMP.take(columns["proto"]).nonzero()[0]
            writable(columns, "icmp_type")[icmp] = keys["icmp"][icmp] >> 8
            writable(columns, "icmp_code")[icmp] = keys["icmp"][icmp] & 0xFF
        state = ends.structs["state"]
        many = (columns["dst_ip"][:, 0] == 0xFF) | (columns["dst_ip"][:, 12] >= 0xE0)
        if ends.bits["state"] & _BROADCAST:
            many |= (state & _BROADCAST) != 0
        rows = many.nonzero()[0]
        if rows.size:
            writable(columns, "cast")[rows] = _cast(columns["dst_ip"][rows], state[rows])
        return Decoded(
            batch,
            keys["ifindex"].copy(),
            ((keys["egress"] ^ initiator) & 1).view(np.bool_),
            np.zeros(len(keys), np.uint32),
        )

    @staticmethod
    def _unwrap(columns: dict[str, Array], flows: Array, initiator: Array) -> None:
        """Set a tunnel's number and ends, where there is one. ``flows`` has those of FLOW."""
        rows = columns["tunnel"].nonzero()[0]
        back = initiator[rows].astype(np.bool_)
        a, b = flows["tunnel_id"][rows].T
        there = np.where(back, b, a)
        writable(columns, "tunnel_id")[rows] = np.where(there, there, np.where(back, a, b))
        ends = flows["tunnel_ends"][rows].reshape(-1, 2, 2)
        ends[back] = ends[back][:, ::-1]
        for name, words in zip(
            ("tunnel_src_ip", "tunnel_dst_ip"), ends.swapaxes(0, 1), strict=True
        ):
            writable(columns, name)[rows] = np.ascontiguousarray(words).view("u1")

    @staticmethod
    def _make_open(columns: dict[str, Array], rows: slice, time: Array) -> None:
        columns["kind"][rows] = Kind.open
        columns["time"][rows] = time
        for name in _COUNTED:
            if not is_nothing(columns[name]):
                columns[name][rows] = 0

    def _reasons(self, numbers: Array) -> NDArray[np.uint32]:
        """String ids of drop reasons; one without a name is its number in digits."""
        strings = self.endpoints.strings
        if strings is not self._reason_strings:
            core = {n: name for n, name in self._drop_reasons.items() if n < _CORE_REASONS}
            self._reason_ids = np.zeros(max(core, default=0) + 1, np.uint32)
            for number, name in core.items():
                self._reason_ids[number] = strings.id(name)
            self._reason_strings = strings
        ids = np.zeros(len(numbers), np.uint32)
        inside = numbers < len(self._reason_ids)
        ids[inside] = self._reason_ids[numbers[inside]]
        for number in np.unique(numbers[ids == 0]).tolist():
            ids[numbers == number] = strings.id(str(number))
        return ids


def _cast(addresses: Array, state: Array) -> NDArray[np.uint8]:
    """``schema.Cast`` of destination addresses, shape (n, 16), of flows with FLOW_* bits."""
    high, low = addresses.view("<u8").T  # byte 0 is the lowest of `high`
    is_ipv4 = (high == 0) & (low & 0xFFFFFFFF == 0xFFFF0000)
    group = (high & 0xFF == 0xFF) | (is_ipv4 & (low >> 36 & 0xF == 0xE))
    everybody = (is_ipv4 & (low >> 32 == 0xFFFFFFFF)) | (state & _BROADCAST != 0)
    found = np.zeros(len(state), np.uint8)
    found[everybody] = Cast.broadcast
    found[group] = Cast.multicast
    return found


def _utc(monotonic_ns: Array, offset_ns: int) -> NDArray[np.int64]:
    utc: NDArray[np.int64] = monotonic_ns.view(np.int64) + offset_ns
    return utc


def _closed(flows: Array) -> NDArray[np.bool_]:
    """Flows that ended in this interval; read after the grace period, so both FINs are seen."""
    fin = flows["fin"]
    over = ((fin[:, 0] != 0) & (fin[:, 1] != 0)) | (flows["closer"] >= CLOSER["CLOSER_RST_A"][0])
    ended: NDArray[np.bool_] = over & ((flows["state"] & _CLOSED_BEFORE) == 0)
    return ended
