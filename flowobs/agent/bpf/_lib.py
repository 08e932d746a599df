"""libbpf.so.1 by ctypes: the one place that knows its C prototypes."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator
from ctypes import c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_void_p)

# name: (result, arguments). A negative int is -errno; a NULL pointer comes with errno set.
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (c_void_p, (c_void_p,)),
    "libbpf_num_possible_cpus": (c_int, ()),
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_program__set_autoload": (c_int, (c_void_p, c_bool)),
    "bpf_program__set_log_buf": (c_int, (c_void_p, c_void_p, c_size_t)),
    "bpf_program__set_log_level": (c_int, (c_void_p, c_uint32)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__is_internal": (c_bool, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_lookup_batch": (c_int, (c_int,) + (c_void_p,) * 6),
    "bpf_map_lookup_and_delete_batch": (c_int, (c_int,) + (c_void_p,) * 6),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_raw_tracepoint_open": (c_int, (c_char_p, c_int)),
    "bpf_iter_create": (c_int, (c_int,)),
    "bpf_tc_hook_create": (c_int, (c_void_p,)),
    "bpf_tc_attach": (c_int, (c_void_p, c_void_p)),
    "bpf_tc_detach": (c_int, (c_void_p, c_void_p)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_enable_stats": (c_int, (c_int,)),
    "btf__load_vmlinux_btf": (c_void_p, ()),
    "btf__parse_elf": (c_void_p, (c_char_p, c_void_p)),
    "btf__free": (None, (c_void_p,)),
    "btf__find_by_name_kind": (c_int, (c_void_p, c_char_p, c_uint32)),
    "btf__type_by_id": (c_void_p, (c_void_p, c_uint32)),
    "btf__name_by_offset": (c_char_p, (c_void_p, c_uint32)),
    "btf__resolve_size": (ctypes.c_int64, (c_void_p, c_uint32)),
}


class BpfError(OSError):
    """The kernel or libbpf said no: ``errno``, and ``strerror``: what was tried and why not."""


@functools.cache
def lib() -> Any:
    """libbpf with its prototypes set, loaded at the first use; BpfError when there is none."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise BpfError(
            0, "libbpf.so.1 is not installed: install libbpf1 (Debian, Ubuntu) or libbpf (Fedora)"
        ) from error
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    library.libbpf_set_print(None)
    return library


def require() -> None:
    """Raise BpfError, in words, where libbpf is not installed."""
    lib()


def check(result: int, action: str) -> int:
    """``result`` unless it is a negative errno, which becomes BpfError("action: reason")."""
    if result < 0:
        raise failure(-result, action)
    return result


def failure(number: int, action: str) -> BpfError:
    """The BpfError for an errno; ``strerror`` is the whole sentence."""
    return BpfError(number, f"{action}: {os.strerror(number)}")


@contextlib.contextmanager
def warnings() -> Iterator[list[str]]:
    """Collect what libbpf would print as warnings. It has one printer per process: do not nest."""
    lines: list[str] = []
    text = ctypes.create_string_buffer(4096)
    vsnprintf = ctypes.CDLL(None).vsnprintf
    vsnprintf.argtypes = (c_void_p, c_size_t, c_void_p, c_void_p)

    def collect(level: int, format: int, arguments: int) -> int:
        # A va_list argument is a pointer on x86-64 and arm64 alike.
        if level == 0:
            vsnprintf(text, len(text), format, arguments)
            lines.append(text.value.decode(errors="replace").strip())
        return 0

    printer = _PRINT(collect)
    lib().libbpf_set_print(ctypes.cast(printer, c_void_p))
    try:
        yield lines
    finally:
        lib().libbpf_set_print(None)
