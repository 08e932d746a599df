"""eBPF by file descriptor: objects, maps, links, programs. A thin, stateless layer on libbpf.so.1.

Everything raises ``BpfError`` (an OSError) with what was tried and why the kernel refused.
"""

from flowobs.agent.bpf._lib import BpfError, require, warnings
from flowobs.agent.bpf.links import (
    CGROUP_INET4_CONNECT,
    CGROUP_INET4_POST_BIND,
    CGROUP_INET6_CONNECT,
    CGROUP_INET6_POST_BIND,
    CGROUP_INET_SOCK_CREATE,
    CGROUP_INET_SOCK_RELEASE,
    CGROUP_UDP4_SENDMSG,
    CGROUP_UDP6_SENDMSG,
    attach_cgroup,
    attach_clsact,
    attach_iterator,
    attach_raw_tracepoint,
    attach_tcx,
    detach_clsact,
    read_iterator,
)
from flowobs.agent.bpf.maps import (
    BPF_ANY,
    BPF_EXIST,
    BPF_NOEXIST,
    MapInfo,
    delete,
    drain,
    lookup,
    lookup_percpu,
    map_info,
    possible_cpus,
    read_batch,
    update,
)
from flowobs.agent.bpf.objects import BpfObject
from flowobs.agent.bpf.programs import (
    ProgramInfo,
    TestRun,
    enable_stats,
    program_info,
    test_run,
)

__all__ = [
    "BPF_ANY",
    "BPF_EXIST",
    "BPF_NOEXIST",
    "CGROUP_INET4_CONNECT",
    "CGROUP_INET4_POST_BIND",
    "CGROUP_INET6_CONNECT",
    "CGROUP_INET6_POST_BIND",
    "CGROUP_INET_SOCK_CREATE",
    "CGROUP_INET_SOCK_RELEASE",
    "CGROUP_UDP4_SENDMSG",
    "CGROUP_UDP6_SENDMSG",
    "BpfError",
    "BpfObject",
    "MapInfo",
    "ProgramInfo",
    "TestRun",
    "attach_cgroup",
    "attach_clsact",
    "attach_iterator",
    "attach_raw_tracepoint",
    "attach_tcx",
    "delete",
    "detach_clsact",
    "drain",
    "enable_stats",
    "lookup",
    "lookup_percpu",
    "map_info",
    "possible_cpus",
    "program_info",
    "read_batch",
    "read_iterator",
    "require",
    "test_run",
    "update",
    "warnings",
]
