"""What may stand in an inventory file (docs/identity.md)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from flowobs.identity.numbers import MAX_LABELS

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Addresses = Annotated[list[str], msgspec.Meta(min_length=1)]
Key = Annotated[str, msgspec.Meta(max_length=317, pattern=r"^[A-Za-z0-9_./-]+$")]
Value = Annotated[str, msgspec.Meta(max_length=63, pattern=r"^[A-Za-z0-9_.-]*$")]
Labels = Annotated[dict[Key, Value], msgspec.Meta(max_length=MAX_LABELS)]


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    kind: Text
    name: Text


class Node(msgspec.Struct, forbid_unknown_fields=True):
    name: Text
    addresses: Addresses
    zone: Text | None = None
    labels: Labels = {}


class Host(msgspec.Struct, forbid_unknown_fields=True):
    name: Text
    addresses: Addresses
    kind: Literal["host", "vm"] = "host"
    group: Text | None = None
    zone: Text | None = None
    labels: Labels = {}


class Pod(msgspec.Struct, forbid_unknown_fields=True):
    namespace: Text
    name: Text
    addresses: Addresses
    workload: Workload | None = None
    service: Text | list[Text] | None = None
    node: Text | None = None
    container: Text | None = None
    labels: Labels = {}


class Service(msgspec.Struct, forbid_unknown_fields=True):
    namespace: Text
    name: Text
    addresses: Addresses
    labels: Labels = {}


class Cidr(msgspec.Struct, forbid_unknown_fields=True):
    name: Text
    cidr: Text
    kind: Literal["external", "host", "vm", "world"] = "external"
    group: Text | None = None
    zone: Text | None = None
    labels: Labels = {}


class Name(msgspec.Struct, forbid_unknown_fields=True):
    name: Text
    addresses: Addresses
    group: Text | None = None
    labels: Labels = {}


class Inventory(msgspec.Struct, forbid_unknown_fields=True):
    cluster: Text | None = None
    nodes: list[Node] = []
    hosts: list[Host] = []
    pods: list[Pod] = []
    services: list[Service] = []
    cidrs: list[Cidr] = []
    names: list[Name] = []
