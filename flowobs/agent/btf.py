"""Type information (BTF) of the running kernel or of a compiled object, read by libbpf."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flowobs.agent.bpf import BpfError
from flowobs.agent.bpf._lib import failure, lib

KERNEL = Path("/sys/kernel/btf/vmlinux")

# BTF_KIND_*, linux/btf.h
_STRUCT, _UNION, _ENUM, _ENUM64 = 4, 5, 6, 19
_MODIFIERS = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type tag

_DROP_PREFIX = "SKB_DROP_REASON_"


class Member(NamedTuple):
    """A struct member; bytes. ``type`` is an id inside its Btf."""

    name: str
    offset: int
    size: int
    type: int


class Layout(NamedTuple):
    """A struct as the compiler laid it out; bytes."""

    size: int
    members: tuple[Member, ...]


class _Type(NamedTuple):
    name: str
    kind: int
    bitfields: bool
    size_or_type: int
    body: int  # address of the member or value array
    length: int


class Btf:
    """Raises BpfError when the types cannot be read. Close it: the kernel's take 10 MB."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def kernel(cls) -> Btf:
        """The running kernel's own types."""
        if not KERNEL.is_file():
            raise BpfError(
                errno.ENOENT,
                f"this kernel tells no types ({KERNEL} is not there): mount sysfs if it is not;"
                " else it takes a kernel with CONFIG_DEBUG_INFO_BTF",
            )
        handle = lib().btf__load_vmlinux_btf()
        if not handle:
            raise failure(ctypes.get_errno(), f"cannot read the kernel's types from {KERNEL}")
        return cls(handle)

    @classmethod
    def of_object(cls, path: Path) -> Btf:
        """The types in a compiled object file."""
        handle = lib().btf__parse_elf(os.fsencode(path), None)
        if not handle:
            raise failure(ctypes.get_errno(), f"cannot read types from {path}")
        return cls(handle)

    def close(self) -> None:
        """Free the memory."""
        if self._handle:
            lib().btf__free(self._handle)
            self._handle = 0

    def __enter__(self) -> Btf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def layout(self, name: str) -> Layout:
        """Size and members of ``struct name``; raises BpfError if there is none."""
        found = self._find(name, _STRUCT)
        return Layout(found.size_or_type, tuple(self._members(found)))

    def offset(self, struct_name: str, member: str) -> int:
        """Bytes from the start of a struct to a member, also one in anonymous structs and unions.

        Raises BpfError when this kernel's struct has no such member, or has it as a bit field.
        """
        offset = self._search(self._find(struct_name, _STRUCT), member)
        if offset is None:
            raise BpfError(0, f"struct {struct_name} has no member {member} here")
        return offset

    def enum(self, name: str) -> dict[int, str]:
        """Names of an enum's values, the first where two share one; BpfError if there is none."""
        found = self._find(name, _ENUM, _ENUM64)
        wide = found.kind == _ENUM64
        item = struct.Struct("<III" if wide else "<Ii")
        values: dict[int, str] = {}
        for fields in item.iter_unpack(ctypes.string_at(found.body, item.size * found.length)):
            value = fields[1] | fields[2] << 32 if wide else fields[1]
            values.setdefault(value, self._name(fields[0]))
        return values

    def drop_reasons(self) -> dict[int, str]:
        """The kernel's drop reasons, ``{2: "NOT_SPECIFIED"}``: numbers move between kernels."""
        return {
            number: name.removeprefix(_DROP_PREFIX)
            for number, name in self.enum("skb_drop_reason").items()
            if name.startswith(_DROP_PREFIX) and not name.endswith(("_MAX", "_MASK"))
        }

    def _find(self, name: str, *kinds: int) -> _Type:
        for kind in kinds:
            number = lib().btf__find_by_name_kind(self._handle, name.encode(), kind)
            if number > 0:
                return self._type(number)
        raise BpfError(0, f"there is no {'struct' if _STRUCT in kinds else 'enum'} {name} here")

    def _name(self, offset: int) -> str:
        text: Any = lib().btf__name_by_offset(self._handle, offset)
        return bytes(text).decode() if text else ""

    def _type(self, number: int) -> _Type:
        address = lib().btf__type_by_id(self._handle, number)
        name, info, size_or_type = struct.unpack("<III", ctypes.string_at(address, 12))
        return _Type(
            self._name(name),
            info >> 24 & 0x1F,
            bool(info >> 31),
            size_or_type,
            address + 12,
            info & 0xFFFF,
        )

    def _rows(self, parent: _Type) -> Iterator[tuple[str, int, int, int]]:
        """(name, type id, offset in bits, bits of a bit field or 0) of each member."""
        rows = ctypes.string_at(parent.body, 12 * parent.length)
        for name, number, offset in struct.iter_unpack("<III", rows):
            if parent.bitfields:
                yield self._name(name), number, offset & 0xFFFFFF, offset >> 24
            else:
                yield self._name(name), number, offset, 0

    def _members(self, parent: _Type) -> list[Member]:
        return [
            Member(name, bits // 8, int(lib().btf__resolve_size(self._handle, number)), number)
            for name, number, bits, _ in self._rows(parent)
        ]

    def _search(self, parent: _Type, member: str) -> int | None:
        for name, number, bits, width in self._rows(parent):
            if name == member:
                if width:
                    raise BpfError(0, f"member {member} is a bit field here")
                return bits // 8
            if not name and (inner := self._compound(number)):
                found = self._search(inner, member)
                if found is not None:
                    return bits // 8 + found
        return None

    def _compound(self, number: int) -> _Type | None:
        found = self._type(number)
        while found.kind in _MODIFIERS:
            found = self._type(found.size_or_type)
        return found if found.kind in (_STRUCT, _UNION) else None
