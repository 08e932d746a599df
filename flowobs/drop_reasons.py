"""The kernel's drop reasons as Hubble's: ``flow.DropReason`` numbers, for those who read Hubble.

Hubble's list is that of Cilium's datapath: a reason of the kernel has a number only where one of
them says the same. All others are 0 (DROP_REASON_UNKNOWN) and keep their kernel name.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class DropReason(enum.IntEnum):
    """Those of Hubble's numbers that a kernel without Cilium can have, by their names there."""

    DROP_REASON_UNKNOWN = 0
    INVALID_SOURCE_MAC = 130
    INVALID_SOURCE_IP = 132
    POLICY_DENIED = 133
    INVALID_PACKET_DROPPED = 134
    UNKNOWN_L4_PROTOCOL = 142
    UNKNOWN_L3_TARGET_ADDRESS = 150
    STALE_OR_UNROUTABLE_IP = 151
    ERROR_WHILE_CORRECTING_L3_CHECKSUM = 153
    ERROR_WHILE_CORRECTING_L4_CHECKSUM = 154
    INVALID_IPV6_EXTENSION_HEADER = 156
    IP_FRAGMENTATION_NOT_SUPPORTED = 157
    NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT = 160
    REACHED_EDT_RATE_LIMITING_DROP_HORIZON = 162
    LOCAL_HOST_IS_UNREACHABLE = 164
    UNSUPPORTED_L2_PROTOCOL = 166
    FIB_LOOKUP_FAILED = 169
    FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND = 175
    SOCKET_LOOKUP_FAILED = 178
    INVALID_VNI = 183


_R = DropReason
_MEANINGS: Mapping[DropReason, str] = {
    # a rule of somebody's: netfilter, tc, XDP, a cgroup's or a socket's filter
    _R.POLICY_DENIED: (
        "NETFILTER_DROP SOCKET_FILTER BPF_CGROUP_EGRESS TC_INGRESS TC_EGRESS XDP XFRM_POLICY"
        " SECURITY_HOOK"
    ),
    _R.INVALID_SOURCE_MAC: "MAC_INVALID_SOURCE LOCAL_MAC",
    _R.INVALID_SOURCE_IP: "IP_INVALID_SOURCE IP_LOCAL_SOURCE IP_RPFILTER",
    _R.INVALID_PACKET_DROPPED: "IP_INHDR PKT_TOO_SMALL HDR_TRUNC DEV_HDR TCP_FLAGS",
    _R.UNKNOWN_L4_PROTOCOL: "IP_NOPROTO",
    _R.UNKNOWN_L3_TARGET_ADDRESS: "IP_INVALID_DEST IP_LOCALNET",
    _R.STALE_OR_UNROUTABLE_IP: "IP_INADDRERRORS",
    _R.ERROR_WHILE_CORRECTING_L3_CHECKSUM: "IP_CSUM",
    _R.ERROR_WHILE_CORRECTING_L4_CHECKSUM: "TCP_CSUM UDP_CSUM ICMP_CSUM SKB_CSUM",
    _R.INVALID_IPV6_EXTENSION_HEADER: "IPV6_BAD_EXTHDR",
    _R.IP_FRAGMENTATION_NOT_SUPPORTED: "PKT_TOO_BIG",
    _R.NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT: "VXLAN_ENTRY_EXISTS NO_TX_TARGET",
    _R.REACHED_EDT_RATE_LIMITING_DROP_HORIZON: "FQ_HORIZON_LIMIT",
    _R.LOCAL_HOST_IS_UNREACHABLE: "NEIGH_FAILED NEIGH_DEAD NEIGH_CREATEFAIL NEIGH_HH_FILLFAIL",
    _R.UNSUPPORTED_L2_PROTOCOL: "UNHANDLED_PROTO",
    _R.FIB_LOOKUP_FAILED: (
        "IP_OUTNOROUTES IP_INNOROUTES route_blackhole route_prohibit route_unreachable"
    ),
    _R.FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND: "FRAG_REASM_TIMEOUT",
    _R.SOCKET_LOOKUP_FAILED: "NO_SOCKET",
    _R.INVALID_VNI: "VXLAN_INVALID_HDR VXLAN_VNI_NOT_FOUND",
}

HUBBLE: Mapping[str, DropReason] = MappingProxyType(
    {name: number for number, names in _MEANINGS.items() for name in names.split()}
)
"""The kernel's names to Hubble's numbers."""


def hubble(reason: str) -> DropReason:
    """Hubble's number for one of the kernel's names."""
    return HUBBLE.get(reason, DropReason.DROP_REASON_UNKNOWN)
