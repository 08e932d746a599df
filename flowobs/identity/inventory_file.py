"""The inventory file (docs/identity.md): from its text to endpoints by address prefix."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from flowobs.batch import Endpoint
from flowobs.identity import yamltext
from flowobs.identity.prefixes import BITS, Prefix
from flowobs.schema import EndpointKind

SOURCE = "inventory"
MAX_BYTES = 64 << 20

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Addresses = Annotated[list[str], msgspec.Meta(min_length=1)]


class InventoryError(Exception):
    """An inventory that cannot be used: one sentence with file, line, reason and what to do."""


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    kind: Text
    name: Text


class Node(msgspec.Struct, forbid_unknown_fields=True):
    name: Text
    addresses: Addresses


class Host(msgspec.Struct, forbid_unknown_fields=True):
    name: Text
    addresses: Addresses
    kind: Literal["host", "vm"] = "host"
    group: Text | None = None


class Pod(msgspec.Struct, forbid_unknown_fields=True):
    namespace: Text
    name: Text
    addresses: Addresses
    workload: Workload | None = None
    service: Text | None = None
    node: Text | None = None
    container: Text | None = None


class Service(msgspec.Struct, forbid_unknown_fields=True):
    namespace: Text
    name: Text
    addresses: Addresses


class Cidr(msgspec.Struct, forbid_unknown_fields=True):
    name: Text
    cidr: Text
    kind: Literal["external", "host", "vm", "world"] = "external"


class Name(msgspec.Struct, forbid_unknown_fields=True):
    name: Text
    addresses: Addresses


class Inventory(msgspec.Struct, forbid_unknown_fields=True):
    cluster: Text | None = None
    nodes: list[Node] = []
    hosts: list[Host] = []
    pods: list[Pod] = []
    services: list[Service] = []
    cidrs: list[Cidr] = []
    names: list[Name] = []


def read(path: Path) -> dict[Prefix, Endpoint]:
    """The file's endpoints. Raises InventoryError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InventoryError(
            f"{path}: cannot be read: {reason}; name a YAML file that this process may read"
        ) from None
    if len(data) > MAX_BYTES:
        limit = f"{MAX_BYTES >> 20} MiB"
        raise InventoryError(f"{path}: larger than {limit}; name ranges by `cidrs` instead")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InventoryError(f"{path}:{line}: not UTF-8 text; save it as UTF-8") from None
    return parse(text, str(path))


def parse(text: str, file: str) -> dict[Prefix, Endpoint]:
    """Endpoints of an inventory's text; ``file`` is for messages. Raises InventoryError."""
    try:
        value, lines = yamltext.parse(text)
    except yamltext.YamlError as error:
        where = f"{file}:{error.line}" if error.line else file
        raise InventoryError(f"{where}: {error.reason}") from None
    problem = _Problems(file, lines)
    if value is None:
        raise problem([], "the file is empty; give it at least one of pods, nodes, hosts, cidrs")
    try:
        inventory = msgspec.convert(value, Inventory)
    except msgspec.ValidationError as error:
        raise problem.of(error) from None
    entries: dict[Prefix, Endpoint] = {}
    places: dict[Prefix, list[yamltext.Step]] = {}
    for path, prefix, endpoint in _entries(inventory, problem):
        if prefix in places:
            kind = "address" if prefix.length == BITS else "range"
            first, second = sorted((places[prefix], path), key=lines.at)
            line = lines.at(first)
            raise problem(second, f"this {kind} is already in line {line}; keep one of them")
        entries[prefix], places[prefix] = endpoint, path
    return entries


@dataclass(frozen=True)
class _Problems:
    """Makes errors that say where in the file the trouble is."""

    file: str
    lines: yamltext.Lines

    def __call__(self, path: list[yamltext.Step], reason: str) -> InventoryError:
        at = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path).lstrip(".")
        return InventoryError(
            f"{self.file}:{self.lines.at(path)}: {at + ': ' if at else ''}{reason}"
        )

    def of(self, error: msgspec.ValidationError) -> InventoryError:
        message, _, json_path = str(error).partition(" - at `$")
        path: list[yamltext.Step] = [
            int(index) if index else key
            for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", json_path)
        ]
        if unknown := re.search(r"unknown field `(.*)`", message, re.DOTALL):
            field = unknown[1]
            reason = f"there is no field of this name here; {_FIELDS}"
            return self([*path, field], reason)
        for words, reason in _WORDS.items():
            message = re.sub(words, reason, message)
        return self(path, message)


_FIELDS = "docs/identity.md lists them"
_WORDS = {
    r"Object missing required field `(\w+)`": r"\1 is missing; add it",
    r"Expected `str`, got `null`.*": "is empty; write a value or leave the field out",
    r"Expected `str \| null`, got .*": "must be text; write one value",
    r"Expected `str`, got .*": "must be text; write one value",
    r"Expected `array`, got .*": "must be a list; begin each item with '- '",
    r"Expected `object.*`, got .*": "must be a mapping; write 'key: value' lines",
    r"Expected `(array|str)` of length >= 1.*": "is empty; write a value or leave the entry out",
    r"Expected `str.*` of length <= (\d+).*": r"is longer than \1 characters; shorten it",
    r"Invalid enum value '(.*)'": r"'\1' is not one of its values; see docs/identity.md",
}

_Entry = tuple[list[yamltext.Step], Prefix, Endpoint]


def _entries(inventory: Inventory, problem: _Problems) -> Iterator[_Entry]:
    for section, index, addresses, endpoint in _endpoints(inventory):
        named = endpoint._replace(identity_source=SOURCE)
        for at, text in enumerate(addresses):
            path: list[yamltext.Step] = [section, index, "addresses", at]
            yield path, _address(text, path, problem), named
    for index, cidr in enumerate(inventory.cidrs):
        path = ["cidrs", index, "cidr"]
        kind = EndpointKind[cidr.kind]
        yield (
            path,
            _network(cidr.cidr, path, problem),
            Endpoint(kind, name=cidr.name, identity_source=SOURCE),
        )


def _endpoints(inventory: Inventory) -> Iterator[tuple[str, int, list[str], Endpoint]]:
    cluster = inventory.cluster or ""
    for i, node in enumerate(inventory.nodes):
        yield (
            "nodes",
            i,
            node.addresses,
            Endpoint(EndpointKind.node, cluster, name=node.name, node=node.name),
        )
    for i, host in enumerate(inventory.hosts):
        kind = EndpointKind[host.kind]
        group = (host.group, "Group") if host.group else ("", "")
        yield "hosts", i, host.addresses, Endpoint(kind, "", "", host.name, *group, node=host.name)
    for i, pod in enumerate(inventory.pods):
        workload = pod.workload or Workload("Pod", pod.name)
        yield (
            "pods",
            i,
            pod.addresses,
            Endpoint(
                EndpointKind.pod,
                cluster,
                pod.namespace,
                pod.name,
                workload.name,
                workload.kind,
                pod.service or "",
                pod.node or "",
                pod.container or "",
            ),
        )
    for i, service in enumerate(inventory.services):
        name = service.name
        yield (
            "services",
            i,
            service.addresses,
            Endpoint(EndpointKind.service, cluster, service.namespace, name, service=name),
        )
    for i, outside in enumerate(inventory.names):
        yield "names", i, outside.addresses, Endpoint(EndpointKind.external, name=outside.name)


def _address(text: str, path: list[yamltext.Step], problem: _Problems) -> Prefix:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        advice = "; a range belongs into cidrs" if "/" in text else ""
        raise problem(
            path, f"'{text[:60]}' is not an IP address{advice or '; write e.g. 10.0.0.7'}"
        ) from None
    if getattr(address, "scope_id", None):
        raise problem(path, f"'{text[:60]}' has an interface in it; leave out what follows the %")
    return Prefix.of(ipaddress.ip_network(address))


def _network(text: str, path: list[yamltext.Step], problem: _Problems) -> Prefix:
    try:
        return Prefix.of(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        whole = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise problem(path, f"'{text[:60]}' is not a range; write e.g. 10.0.0.0/8") from None
    raise problem(path, f"{text} has bits set beyond its prefix; write {whole}") from None
