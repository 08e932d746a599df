"""Compiles the probes on this node with BCC: for kernels without BTF. No kernel headers needed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowobs.agent.bpf import BpfError
from flowobs.agent.btf import Btf
from flowobs.agent.features import Kind, Program
from flowobs.agent.loader import dialect, stub
from flowobs.agent.loader.reasons import explain
from flowobs.agent.loader.result import LoadError, Probes

_CHILD = Path(__file__).with_name("bcc_child.py")
TIMEOUT_S = 60
_MESSAGE_BYTES = 1 << 20
_MAX_FDS = 253  # SCM_MAX_FD: the kernel passes no more in one message

# enum bpf_prog_type, linux/bpf.h
_KPROBE, _SCHED_CLS, _CGROUP_SOCK, _RAW_TRACEPOINT, _CGROUP_SOCK_ADDR = 2, 3, 9, 17, 18

_OPTIONAL = {"HAS_RETRANSMIT_ERROR": ("trace_event_raw_tcp_retransmit_skb", "err")}
"""Macros that say whether this kernel's struct has a member."""

_NO_BCC = "no Python here has BCC: install python3-bpfcc (Debian, Ubuntu) or python3-bcc (Fedora)"


class CompileError(RuntimeError):
    """clang inside BCC found an error; the first one, in its words."""


def load(sources: Path, programs: Sequence[Program], flow_entries: int) -> Probes:
    """Compile the files of ``programs`` in the folder ``sources`` and load them one by one.

    Raises LoadError when BCC cannot run at all, or cannot compile even the required files.
    """
    missing = {
        p.name: "BCC cannot compile it: --loader core has it" for p in programs if p.core_only
    }
    wanted = [program for program in programs if not program.core_only]
    offsets, unknown = kernel_offsets(sources, sorted({p.source for p in wanted}))
    missing |= {p.name: unknown[p.source] for p in wanted if p.source in unknown}
    wanted = [program for program in wanted if program.source not in unknown]
    flags = [f"-D{macro}={offset:d}" for macro, offset in sorted(offsets.items())]
    flags += ["-DFO_BCC=1", f"-DFLOW_ENTRIES={flow_entries}"]
    flags.append(f"-D__TARGET_ARCH_{stub.architecture()}")
    try:
        probes = _compile(sources, wanted, flags)
    except CompileError as error:
        # One text for all, so any file can spoil it: what matters most once more by itself.
        required = [program for program in wanted if program.required]
        missing |= {p.name: f"BCC cannot compile it: {error}" for p in wanted if not p.required}
        try:
            probes = _compile(sources, required, flags)
        except CompileError as again:
            raise LoadError(
                f"BCC cannot compile the probes ({again}): update BCC, or use --loader core"
            ) from again
    probes.missing |= missing
    return probes


def kernel_offsets(sources: Path, names: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Offsets of the kernel struct members that the files read, from the running kernel's BTF.

    Returns ``{macro: offset}``, 0 or 1 for those of ``_OPTIONAL``, and, for files that cannot be
    compiled here, ``{file: reason}``.
    """
    needed = {name: dialect.kernel_members(sources, name) for name in names}
    offsets: dict[str, int] = {}
    unknown: dict[str, str] = {}
    if not any(needed.values()):
        return offsets, unknown
    try:
        kernel = Btf.kernel()
    except BpfError as error:
        reason = f"BCC does not know where the kernel keeps what it reads: {error.strerror}"
        return offsets, {name: reason for name, members in needed.items() if members}
    with kernel:
        for macro, (struct, member) in _OPTIONAL.items():
            offsets[macro] = 0
            with contextlib.suppress(BpfError):
                offsets[macro] = kernel.offset(struct, member) > 0
        for name, members in needed.items():
            try:
                offsets |= {m.macro: kernel.offset(m.struct, m.member) for m in members}
            except BpfError as error:
                unknown[name] = error.strerror or str(error)
    return offsets, unknown


def _compile(sources: Path, programs: Sequence[Program], flags: Sequence[str]) -> Probes:
    if not programs:
        return Probes("bcc")
    files = list(dict.fromkeys(program.source for program in programs))
    try:
        tree = stub.make()
    except stub.StubError as error:
        raise LoadError(str(error)) from error
    job = {
        "stub": str(tree),
        "text": dialect.bcc_source(sources, files),
        "cflags": list(flags),
        "programs": [
            {
                "name": program.name,
                "type": _program_type(program.kind, program.hook),
                "attach_type": program.attach_type if program.kind == "cgroup" else None,
            }
            for program in programs
        ],
    }
    answer, fds = run_child(python_with_bcc(), job)
    if answer.get("error") == "no bcc":
        raise LoadError(_NO_BCC)
    if answer.get("error") == "failed":
        raise LoadError(f"BCC does not work here: {answer['log']}")
    if "error" in answer:
        raise CompileError(_first_error(answer["log"]))
    probes = Probes("bcc")
    given = iter(fds)
    probes.programs = dict(zip(answer["programs"], given, strict=False))
    probes.maps = dict(zip(answer["maps"], given, strict=True))
    for name, (number, log) in answer["failed"].items():
        probes.missing[name] = explain(number, log)
    return probes


def _program_type(kind: Kind, hook: str) -> int:
    if kind == "cgroup":
        return _CGROUP_SOCK_ADDR if hook.startswith("connect") else _CGROUP_SOCK
    return {
        "tc": _SCHED_CLS,
        "raw_tp": _RAW_TRACEPOINT,
        "kprobe": _KPROBE,
        "kretprobe": _KPROBE,
    }[kind]


def python_with_bcc() -> str:
    """A Python that should have BCC: our own, else the system's, which is where packages put it."""
    spec = importlib.util.find_spec("bcc")
    # PyPI has another package of that name: ours has libbcc.
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "libbcc.py").is_file():
            return sys.executable
    return "/usr/bin/python3"


def run_child(python: str, job: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Run bcc_child.py on a job; its answer and the fds it sent. LoadError when none came."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ours)
        stack.enter_context(theirs)
        stdin = stack.enter_context(tempfile.TemporaryFile())
        stderr = stack.enter_context(tempfile.TemporaryFile())
        stdin.write(json.dumps(job).encode())
        stdin.seek(0)
        try:
            child = subprocess.Popen(
                # -I: neither PYTHON* variables nor the script's folder, where bcc.py would hide bcc
                [python, "-I", str(_CHILD), str(theirs.fileno())],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            raise LoadError(f"{_NO_BCC} ({python}: {error.strerror})") from error
        theirs.close()
        ours.settimeout(TIMEOUT_S)
        try:
            message, fds = _receive(ours)
        except BaseException as error:
            child.kill()
            if isinstance(error, TimeoutError):
                raise LoadError(
                    f"BCC did not finish within {TIMEOUT_S} s: is this machine overloaded?"
                ) from None
            raise
        finally:
            child.wait()
        if not message:
            stderr.seek(0)
            said = stderr.read().decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"exit status {child.returncode}"
            raise LoadError(f"BCC ended without an answer: {why}")
        return json.loads(message), fds


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    # socket.recv_fds of Python 3.11 drops its flags, so that the fds would be inherited.
    message, rights, _, _ = channel.recvmsg(
        _MESSAGE_BYTES, socket.CMSG_LEN(_MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
    )
    return message, [fd for _, _, data in rights for (fd,) in struct.iter_unpack("i", data)]


def _first_error(log: str) -> str:
    found = re.search(r"\berror: (.+)", log)
    if found:
        return found[1].strip()
    lines = log.strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"
