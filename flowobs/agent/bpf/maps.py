"""Map access straight from and into numpy arrays. Keys and values are contiguous."""

from __future__ import annotations

import ctypes
import errno
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowobs.agent.bpf._lib import check, failure, lib

BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
_PIECE = 256
"""Entries that one system call moves: most kernels let nobody else on the CPU until it ends."""

Array = npt.NDArray[Any]


class MapInfo(NamedTuple):
    """What the kernel says about a map; sizes in bytes."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    name: str


# The head of struct bpf_map_info, linux/bpf.h
_MAP_INFO = np.dtype(
    [(n, "<u4") for n in ("type", "id", "key_size", "value_size", "max_entries", "flags")]
    + [("name", "S16")]
)


@functools.cache
def possible_cpus() -> int:
    """How many values a per-CPU map holds for each key."""
    return check(lib().libbpf_num_possible_cpus(), "cannot count CPUs")


def map_info(map_fd: int) -> MapInfo:
    """Type, sizes and name of a map."""
    info, size = np.zeros(1, _MAP_INFO), ctypes.c_uint32(_MAP_INFO.itemsize)
    check(
        lib().bpf_obj_get_info_by_fd(map_fd, info.ctypes.data, ctypes.byref(size)),
        f"cannot ask for the map behind fd {map_fd}",
    )
    head = info[0]
    return MapInfo(
        int(head["type"]),
        int(head["id"]),
        int(head["key_size"]),
        int(head["value_size"]),
        int(head["max_entries"]),
        bytes(head["name"]).decode(),
    )


def lookup(map_fd: int, key: Array | np.generic, value: Array) -> bool:
    """Copy the value of ``key`` into ``value``; False when there is none."""
    key = np.asarray(key)
    result: int = lib().bpf_map_lookup_elem(map_fd, key.ctypes.data, value.ctypes.data)
    if result == -errno.ENOENT:
        return False
    check(result, "map lookup failed")
    return True


def lookup_each(map_fd: int, keys: Array, values: Array) -> npt.NDArray[np.bool_]:
    """Copy the value of each of ``keys``, shape (n,), into ``values``; which of them have one.

    A system call a key: the kernel has no batch for chosen keys.
    """
    look, size, room = lib().bpf_map_lookup_elem, keys.itemsize, values.itemsize
    key, value = keys.ctypes.data, values.ctypes.data
    results = [look(map_fd, key + i * size, value + i * room) for i in range(len(keys))]
    found = np.array(results, np.int64)
    failed = (found < 0) & (found != -errno.ENOENT)
    if failed.any():
        check(int(found[failed][0]), "map lookup failed")
    have: npt.NDArray[np.bool_] = found == 0
    return have


def lookup_percpu(map_fd: int, index: int, dtype: npt.DTypeLike) -> Array:
    """The values of one entry of a per-CPU array, one row per possible CPU.

    The kernel hands each CPU's value out in 8-byte steps: ``dtype`` must be a multiple of 8 bytes.
    """
    values = np.zeros(possible_cpus(), dtype)
    assert values.itemsize % 8 == 0
    if not lookup(map_fd, np.uint32(index), values):
        raise failure(errno.ENOENT, f"map has no index {index}")
    return values


def update(
    map_fd: int, key: Array | np.generic, value: Array | np.generic, flags: int = BPF_ANY
) -> None:
    """Set the value of ``key``."""
    key, value = np.asarray(key), np.asarray(value)
    check(
        lib().bpf_map_update_elem(map_fd, key.ctypes.data, value.ctypes.data, flags),
        "map update failed",
    )


def delete(map_fd: int, key: Array | np.generic) -> bool:
    """Remove ``key``; False when it was not there."""
    result: int = lib().bpf_map_delete_elem(map_fd, np.asarray(key).ctypes.data)
    if result == -errno.ENOENT:
        return False
    check(result, "map delete failed")
    return True


def is_empty(map_fd: int) -> bool:
    """Whether a hash map has no entry; programs may be writing to it."""
    key = ctypes.create_string_buffer(map_info(map_fd).key_size)
    result: int = lib().bpf_map_get_next_key(map_fd, None, key)
    if result != -errno.ENOENT:
        check(result, "map read failed")
    return result == -errno.ENOENT


def read_batch(map_fd: int, keys: Array, values: Array) -> int:
    """Copy all entries of a hash or array map into ``keys`` and ``values``; how many there were.

    Both arrays need room for the map's ``max_entries``; entries beyond are left out.
    """
    return next(_pieces(lib().bpf_map_lookup_batch, map_fd, keys, values), 0)


def drain(map_fd: int, keys: Array, values: Array) -> int:
    """Move all entries of a hash map into ``keys`` and ``values``; how many there were.

    Both arrays need room for the map's ``max_entries``; what finds no room stays in the map. Exact
    only when no program writes to the map meanwhile. 144-290 ns of CPU per entry. Kernel 5.6+.
    """
    return next(drain_pieces(map_fd, keys, values), 0)


def drain_pieces(map_fd: int, keys: Array, values: Array) -> Iterator[int]:
    """Like :func:`drain`, of a map of any size, by way of small arrays that the cache holds.

    Yields how many entries the arrays hold, again and again; the next step overwrites them.
    """
    return _pieces(lib().bpf_map_lookup_and_delete_batch, map_fd, keys, values)


def _pieces(call: Any, map_fd: int, keys: Array, values: Array) -> Iterator[int]:
    room = min(len(keys), len(values))
    assert keys.flags.c_contiguous and values.flags.c_contiguous
    # The cursor is a u32 for hashes and arrays, but as long as the key in the kernel's contract.
    cursor = ctypes.create_string_buffer(max(keys.itemsize, 8))
    key, value = keys.ctypes.data, values.ctypes.data
    width, size = keys.strides[0], values.strides[0]
    done, position = 0, None
    while True:
        count = ctypes.c_uint32(min(room - done, _PIECE))
        result: int = call(
            map_fd,
            position,
            cursor,
            key + done * width,
            value + done * size,
            ctypes.byref(count),
            None,
        )
        # ENOENT: that was the last entry. ENOSPC: the next bucket is larger than the room left.
        full = result == -errno.ENOSPC and done > 0
        if not full and result != -errno.ENOENT:
            check(result, "map batch read failed")
        done += count.value
        position = cursor
        if done and (full or done == room or result == -errno.ENOENT):
            yield done
            done = 0
        if result == -errno.ENOENT:
            return
