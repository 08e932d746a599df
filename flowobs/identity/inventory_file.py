"""The inventory file (docs/identity.md): from its text to endpoints by address prefix."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flowobs.batch import Endpoint
from flowobs.identity import numbers, yamltext
from flowobs.identity.inventory_model import Inventory, Labels, Workload
from flowobs.identity.numbers import Reserved
from flowobs.identity.prefixes import BITS, Prefix
from flowobs.schema import EndpointKind

SOURCE = "inventory"
MAX_BYTES = 64 << 20


class InventoryError(Exception):
    """An inventory that cannot be used: one sentence with file, line, reason and what to do."""


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
        message, _, json_path = str(error).replace("`key` in `$", "`$").partition(" - at `$")
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
    r"Expected `str \| array.*`, got .*": "must be text, or a list of them",
    r"Expected `str` matching regex.*": (
        "has a character that no label has; use letters, digits, _ . -"
    ),
    r"Expected `object` of length <= (\d+).*": r"has more than \1 labels; leave some out",
    r"Expected `array`, got .*": "must be a list; begin each item with '- '",
    r"Expected `object.*`, got .*": "must be a mapping; write 'key: value' lines",
    r"Expected `(array|str)` of length >= 1.*": "is empty; write a value or leave the entry out",
    r"Expected `str.*` of length <= (\d+).*": r"is longer than \1 characters; shorten it",
    r"Invalid enum value '(.*)'": r"'\1' is not one of its values; see docs/identity.md",
}

_Entry = tuple[list[yamltext.Step], Prefix, Endpoint]


def _entries(inventory: Inventory, problem: _Problems) -> Iterator[_Entry]:
    for section, index, addresses, endpoint in _endpoints(inventory):
        named = _numbered(endpoint)
        for at, text in enumerate(addresses):
            path: list[yamltext.Step] = [section, index, "addresses", at]
            yield path, _address(text, path, problem), named
    for index, cidr in enumerate(inventory.cidrs):
        path = ["cidrs", index, "cidr"]
        kind = EndpointKind[cidr.kind]
        endpoint = _outside(kind, cidr.name, cidr.group, cidr.labels, cidr.zone)
        yield path, _network(cidr.cidr, path, problem), _numbered(endpoint)


def _numbered(endpoint: Endpoint) -> Endpoint:
    """Its labels make its number; where it has none, what it is."""
    pairs = dict(pair.split("=", 1) for pair in endpoint.labels.split(",") if pair)
    if pairs or endpoint.kind == EndpointKind.pod:
        number = numbers.of_labels(endpoint.cluster, endpoint.namespace, pairs)
    else:
        number = _RESERVED.get(EndpointKind(endpoint.kind), Reserved.world)
    return endpoint._replace(identity_source=SOURCE, identity=number)


_RESERVED = {EndpointKind.node: Reserved.remote_node, EndpointKind.service: Reserved.unknown}


def _outside(
    kind: EndpointKind, name: str, group: str | None, labels: Labels, zone: str | None = None
) -> Endpoint:
    """What is not of the cluster, in the group that the user has put it."""
    return Endpoint(
        kind,
        name=name,
        workload=group or "",
        workload_kind="Group" if group else "",
        zone=zone or "",
        labels=numbers.joined(labels),
    )


def _endpoints(inventory: Inventory) -> Iterator[tuple[str, int, list[str], Endpoint]]:
    cluster = inventory.cluster or ""
    for i, node in enumerate(inventory.nodes):
        yield (
            "nodes",
            i,
            node.addresses,
            Endpoint(
                EndpointKind.node,
                cluster,
                name=node.name,
                node=node.name,
                zone=node.zone or "",
                labels=numbers.joined(node.labels),
            ),
        )
    for i, host in enumerate(inventory.hosts):
        endpoint = _outside(EndpointKind[host.kind], host.name, host.group, host.labels, host.zone)
        yield "hosts", i, host.addresses, endpoint._replace(node=host.name)
    zones = {node.name: node.zone or "" for node in inventory.nodes}
    for i, pod in enumerate(inventory.pods):
        workload = pod.workload or Workload("Pod", pod.name)
        services = [pod.service] if isinstance(pod.service, str) else sorted(pod.service or ())
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
                services[0] if services else "",
                pod.node or "",
                pod.container or "",
                zone=zones.get(pod.node or "", ""),
                labels=numbers.joined(pod.labels),
                services=",".join(services),
            ),
        )
    for i, service in enumerate(inventory.services):
        name = service.name
        yield (
            "services",
            i,
            service.addresses,
            Endpoint(
                EndpointKind.service,
                cluster,
                service.namespace,
                name,
                service=name,
                labels=numbers.joined(service.labels),
                services=name,
            ),
        )
    for i, peer in enumerate(inventory.names):
        endpoint = _outside(EndpointKind.external, peer.name, peer.group, peer.labels)
        yield "names", i, peer.addresses, endpoint


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
