"""Run a loaded program on a packet, and read what programs cost."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_int, c_size_t, c_uint32, c_void_p
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowobs.agent.bpf._lib import check, lib

# The part of struct bpf_prog_info (linux/bpf.h) that we read; the offsets are kernel ABI.
_PROG_INFO = np.dtype(
    {
        "names": ["type", "id", "name", "run_time_ns", "run_count", "missed_runs"],
        "formats": ["<u4", "<u4", "S16", "<u8", "<u8", "<u8"],
        "offsets": [0, 4, 64, 192, 200, 208],
        "itemsize": 216,
    }
)


class ProgramInfo(NamedTuple):
    """A program as the kernel knows it. Time and runs count while ``enable_stats`` is held open.

    ``missed_runs``: an interrupt came while the program ran, and its own call of the program on
    that CPU was left out (recursion_misses; always 0 on kernels before 5.12).
    """

    type: int
    id: int
    name: str
    run_time_ns: int
    run_count: int
    missed_runs: int


class _TestRun(ctypes.Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class TestRun(NamedTuple):
    """Result of ``test_run``: the program's return value (signed), and mean nanoseconds per run."""

    value: int
    duration_ns: int


def test_run(prog_fd: int, packet: bytes, *, context: bytes = b"", repeat: int = 1) -> TestRun:
    """Run a tc program on an Ethernet frame (BPF_PROG_TEST_RUN); nothing is sent.

    ``context`` is a ``struct __sk_buff`` or the head of one: the kernel takes mark, priority,
    ifindex, tstamp, wire_len, gso_segs and gso_size from it, and wants all else to be zero.
    """
    data = ctypes.create_string_buffer(packet, len(packet))
    head = ctypes.create_string_buffer(context, len(context)) if context else None
    options = _TestRun(
        sz=ctypes.sizeof(_TestRun),
        data_in=ctypes.cast(data, c_void_p),
        data_size_in=len(packet),
        ctx_in=ctypes.cast(head, c_void_p) if head else None,
        ctx_size_in=len(context),
        repeat=repeat,
    )
    check(
        lib().bpf_prog_test_run_opts(prog_fd, ctypes.byref(options)),
        f"cannot run the program on a packet of {len(packet)} bytes",
    )
    return TestRun(ctypes.c_int32(options.retval).value, options.duration)


def test_run_each(
    prog_fd: int, packets: Sequence[bytes], *, context: bytes = b""
) -> tuple[npt.NDArray[np.int32], bytes]:
    """Run a tc program once on each frame, with as little as possible in between: its return
    values, and the frames as it left them, one behind the other.
    """
    data = np.frombuffer(b"".join(packets), np.uint8)
    out = np.empty_like(data)
    head = ctypes.create_string_buffer(context, len(context)) if context else None
    runs = (_TestRun * len(packets))()
    start = 0
    for run, packet in zip(runs, packets, strict=True):
        run.sz = ctypes.sizeof(_TestRun)
        run.data_in, run.data_out = data.ctypes.data + start, out.ctypes.data + start
        run.data_size_in = run.data_size_out = len(packet)
        if head:
            run.ctx_in, run.ctx_size_in = ctypes.addressof(head), len(context)
        start += len(packet)
    call, reference = lib().bpf_prog_test_run_opts, ctypes.byref
    for run in runs:
        if error := call(prog_fd, reference(run)):
            check(error, f"cannot run the program on a packet of {run.data_size_in} bytes")
    for run, packet in zip(runs, packets, strict=True):
        assert run.data_size_out == len(packet), "the program changed a frame's length"
    values = np.array([run.retval for run in runs], np.uint32)
    return values.view(np.int32), out.tobytes()


def program_info(prog_fd: int) -> ProgramInfo:
    """Type, id, name and cost so far of a program."""
    info, size = np.zeros(1, _PROG_INFO), ctypes.c_uint32(_PROG_INFO.itemsize)
    check(
        lib().bpf_obj_get_info_by_fd(prog_fd, info.ctypes.data, ctypes.byref(size)),
        f"cannot ask for the program behind fd {prog_fd}",
    )
    row = info[0]
    return ProgramInfo(
        int(row["type"]),
        int(row["id"]),
        bytes(row["name"]).decode(),
        int(row["run_time_ns"]),
        int(row["run_count"]),
        int(row["missed_runs"]),
    )


def enable_stats() -> int:
    """Have the kernel time every program (about 29 ns each run) until the returned fd is closed."""
    return check(lib().bpf_enable_stats(0), "cannot switch on program statistics")
