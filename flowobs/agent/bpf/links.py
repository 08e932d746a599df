"""Attach programs by fd. A link lives as long as its fd: closing it, or dying, detaches."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import c_int, c_size_t, c_uint32
from pathlib import Path

from flowobs.agent.bpf._lib import BpfError, check, lib

# enum bpf_attach_type, linux/bpf.h
CGROUP_INET_SOCK_CREATE, CGROUP_INET4_CONNECT, CGROUP_INET6_CONNECT = 2, 10, 11
CGROUP_INET4_POST_BIND, CGROUP_INET6_POST_BIND, CGROUP_INET_SOCK_RELEASE = 12, 13, 34
CGROUP_UDP4_SENDMSG, CGROUP_UDP6_SENDMSG = 14, 15
_TRACE_ITER, _TCX_INGRESS, _TCX_EGRESS = 28, 46, 47
_BPF_F_BEFORE = 1 << 3

# Priority 1, so that no filter of others takes the packet first; the handle ("FLObs") tells ours
# from theirs within that priority, and the next one that the queue is ours, too.
CLSACT_PRIORITY = 1
CLSACT_HANDLE = 0xF10B5
CLSACT_OWN_QUEUE = 0xF10B6


class _LinkOptions(ctypes.Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
    )


class _TcHook(ctypes.Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("ifindex", c_int),
        ("attach_point", c_int),
        ("parent", c_uint32),
    )


class _TcOptions(ctypes.Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    )


def attach_raw_tracepoint(prog_fd: int, name: str) -> int:
    """Attach to a tracepoint of the whole machine (``kfree_skb``, no group); the link's fd.

    Needs neither tracefs nor perf events. Raises BpfError: ENOENT when the kernel has it not,
    EINVAL when the program reads more arguments than it has.
    """
    link: int = lib().bpf_raw_tracepoint_open(name.encode(), prog_fd)
    if link == -errno.EINVAL:
        raise BpfError(errno.EINVAL, f"this kernel's tracepoint {name} tells less: it is too old")
    return check(link, f"cannot attach to tracepoint {name}")


def attach_traced(prog_fd: int) -> int:
    """Attach to the tracepoint or function of the kernel it was loaded for; the link's fd.

    For programs that know their hook's types (tp_btf, fentry).
    """
    return check(lib().bpf_raw_tracepoint_open(None, prog_fd), "cannot attach to its hook")


def attach_cgroup(prog_fd: int, path: str | os.PathLike[str], attach_type: int) -> int:
    """Attach to a cgroup v2 folder, beside the programs of others; the link's fd. Kernel 5.7+."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return check(
            lib().bpf_link_create(prog_fd, folder, attach_type, None),
            f"cannot attach to cgroup {Path(path)}",
        )
    finally:
        os.close(folder)


def attach_tcx(prog_fd: int, ifindex: int, egress: bool) -> int:
    """Attach to an interface of the calling thread's network namespace; the link's fd.

    The program comes before those of others, which may end the chain. Raises BpfError: EINVAL on
    kernels before 6.6, ENODEV when there is no such interface.
    """
    options = _LinkOptions(sz=ctypes.sizeof(_LinkOptions), flags=_BPF_F_BEFORE)
    return check(
        lib().bpf_link_create(
            prog_fd, ifindex, _TCX_EGRESS if egress else _TCX_INGRESS, ctypes.byref(options)
        ),
        f"cannot attach to interface {ifindex} by TCX",
    )


def attach_clsact(prog_fd: int, ifindex: int, egress: bool, handle: int = CLSACT_HANDLE) -> None:
    """Attach as a tc filter, for kernels before 6.6. Replaces the filter of that handle.

    The filter outlives the process: call ``detach_clsact`` on the way out, and at start for what a
    crash left.
    """
    hook = _tc_hook(ifindex, egress)
    created = lib().bpf_tc_hook_create(ctypes.byref(hook))
    if created != -errno.EEXIST:
        check(created, f"cannot add the clsact queue to interface {ifindex}")
    options = _TcOptions(
        sz=ctypes.sizeof(_TcOptions),
        prog_fd=prog_fd,
        flags=1,  # BPF_TC_F_REPLACE
        handle=handle,
        priority=CLSACT_PRIORITY,
    )
    check(
        lib().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options)),
        f"cannot attach to interface {ifindex} by tc filter",
    )


def detach_clsact(ifindex: int, egress: bool, handle: int = CLSACT_HANDLE) -> bool:
    """Remove our tc filter; False when there was none. The clsact queue stays, harmless."""
    hook = _tc_hook(ifindex, egress)
    options = _TcOptions(sz=ctypes.sizeof(_TcOptions), handle=handle, priority=CLSACT_PRIORITY)
    result: int = lib().bpf_tc_detach(ctypes.byref(hook), ctypes.byref(options))
    # EINVAL: the interface has no clsact queue. ENODEV: it is gone, and its filters with it.
    if result in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
        return False
    check(result, f"cannot remove the tc filter of interface {ifindex}")
    return True


def attach_iterator(prog_fd: int) -> int:
    """A link for an iterator program; its fd goes to ``read_iterator`` any number of times."""
    return check(lib().bpf_link_create(prog_fd, 0, _TRACE_ITER, None), "cannot attach the iterator")


def read_iterator(link_fd: int) -> bytes:
    """Run an iterator once over everything and return all it wrote."""
    fd = check(lib().bpf_iter_create(link_fd), "cannot start the iterator")
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def _tc_hook(ifindex: int, egress: bool) -> _TcHook:
    # enum bpf_tc_attach_point: 1 ingress, 2 egress
    return _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=2 if egress else 1)
