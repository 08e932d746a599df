"""Compiles and loads with BCC in a process of its own, sends the fds to the agent, and ends.

Run by path with whichever Python has ``bcc``, perhaps not the agent's: the standard library and bcc
only, nothing newer than Python 3.8. The job is JSON on stdin; the answer is one message on the unix
socket whose fd is argv[1], with the fds beside it, programs first, or an error:

    {"programs": [names], "maps": [names], "failed": {name: [errno, log]}}
    {"error": "no bcc" | "compile" | "failed", "log": "..."}
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import socket
import sys
from typing import Any

LOG_BYTES = 8192


class Stderr:
    """What libbcc and the clang inside it write to fd 2."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("stderr")
        os.dup2(self._fd, 2)

    def take(self) -> str:
        """The end of what was written since the last call."""
        size = os.lseek(self._fd, 0, os.SEEK_END)
        text = os.pread(self._fd, size, 0)
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        return text[-LOG_BYTES:].decode(errors="replace")


def load(job: dict[str, Any], stderr: Stderr) -> tuple[dict[str, Any], list[int]]:
    """Do the job; the answer and the fds that go with it."""
    os.environ["BCC_KERNEL_SOURCE"] = job["stub"]
    try:
        from bcc import BPF, lib
    except ImportError:
        return {"error": "no bcc", "log": ""}, []
    try:
        module = BPF(text=job["text"], cflags=job["cflags"])
    except Exception:
        return {"error": "compile", "log": stderr.take()}, []
    stderr.take()
    names, fds, failed = [], [], {}
    for program in job["programs"]:
        name = program["name"]
        options = {} if program["attach_type"] is None else {"attach_type": program["attach_type"]}
        try:
            fds.append(module.load_func(name, program["type"], **options).fd)
            names.append(name)
        except Exception:
            failed[name] = [ctypes.get_errno(), stderr.take()]
    # bcc itself declares neither; without types a pointer would be cut to an int.
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    lib.bpf_table_name.restype = ctypes.c_char_p
    lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    maps = [lib.bpf_table_name(module.module, i) for i in range(lib.bpf_num_tables(module.module))]
    fds += [lib.bpf_table_fd(module.module, name) for name in maps]
    answer = {"programs": names, "maps": [name.decode() for name in maps], "failed": failed}
    return answer, fds


def main() -> None:
    stderr = Stderr()
    try:
        answer, fds = load(json.load(sys.stdin), stderr)
    except Exception as error:
        answer, fds = {"error": "failed", "log": f"{type(error).__name__}: {error}"}, []
    channel = socket.socket(fileno=int(sys.argv[1]))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([json.dumps(answer).encode()], rights)
    # The fds are sent; freeing LLVM's memory one block at a time would only take time.
    os._exit(0)


if __name__ == "__main__":
    main()
