"""The inventory's text: what it means, and what is said about every way to get it wrong."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowobs.batch import Endpoint
from flowobs.identity import inventory_file, numbers
from flowobs.identity.inventory_file import InventoryError
from flowobs.identity.prefixes import Prefix
from flowobs.schema import EndpointKind

GOOD = """
cluster: demo
nodes:
- {name: node-1, addresses: [192.0.2.1, "2001:db8::1"], zone: z1}
hosts:
- {name: db-old, addresses: [10.9.0.1], kind: vm, group: legacy}
- name: printer
  addresses: [10.9.0.2]
pods:
- namespace: shop
  name: web-0
  addresses: [10.88.0.10]
  workload: {kind: Deployment, name: web}
  service: [web, api]
  node: node-1
  container: nginx
  labels: {app: web, app.kubernetes.io/name: web}
- {namespace: shop, name: once, addresses: [10.88.0.11]}
services:
- {namespace: shop, name: web, addresses: [10.96.0.1]}
cidrs:
- {name: partner, cidr: 203.0.113.0/24, group: billing, labels: {team: pay}}
- {name: internet, cidr: "::/0", kind: world}
names:
- {name: api.example.com, addresses: [198.51.100.7]}
"""


def prefix(text: str) -> Prefix:
    return Prefix.of(ipaddress.ip_network(text))


def test_every_section_becomes_endpoints() -> None:
    kind = EndpointKind
    node = named(kind.node, "demo", name="node-1", node="node-1", zone="z1", identity=6)
    labels = {"app": "web", "app.kubernetes.io/name": "web"}
    assert inventory_file.parse(GOOD, "i.yaml") == {
        prefix("192.0.2.1"): node,
        prefix("2001:db8::1"): node,
        prefix("10.9.0.1"): named(
            kind.vm, "", "", "db-old", "legacy", "Group", "", "db-old", identity=2
        ),
        prefix("10.9.0.2"): named(kind.host, name="printer", node="printer", identity=2),
        prefix("10.88.0.10"): named(
            kind.pod, "demo", "shop", "web-0", "web", "Deployment", "api", "node-1", "nginx",
            zone="z1", labels="app=web,app.kubernetes.io/name=web", services="api,web",
            identity=numbers.of_labels("demo", "shop", labels),
        ),
        prefix("10.88.0.11"): named(
            kind.pod, "demo", "shop", "once", "once", "Pod",
            identity=numbers.of_labels("demo", "shop", {}),
        ),
        prefix("10.96.0.1"): named(
            kind.service, "demo", "shop", "web", service="web", services="web"
        ),
        prefix("203.0.113.0/24"): named(
            kind.external, name="partner", workload="billing", workload_kind="Group",
            labels="team=pay", identity=numbers.of_labels("", "", {"team": "pay"}),
        ),
        prefix("::/0"): named(kind.world, name="internet", identity=2),
        prefix("198.51.100.7"): named(kind.external, name="api.example.com", identity=2),
    }  # fmt: skip


def named(*values: Any, **more: Any) -> Endpoint:
    return Endpoint(*values, **more)._replace(identity_source="inventory")


def test_every_scalar_is_text() -> None:
    """YAML 1.1 would make a bool, a number, and a number to the base of 60 of these."""
    text = (
        'hosts:\n- {name: no, addresses: [2001:10:20:30:1:2:3:4]}\n- {name: 5, addresses: ["::5"]}'
    )
    entries = inventory_file.parse(text, "i.yaml")
    assert entries[prefix("2001:10:20:30:1:2:3:4")].name == "no"
    assert entries[prefix("::5")].name == "5"


POD = "pods:\n- {namespace: a, name: b, addresses: [10.0.0.1]}\n"

BROKEN = [
    ("", "i.yaml:1: the file is empty; give it"),
    ("# nothing\n", "i.yaml:1: the file is empty; give it"),
    ("- a\n", "i.yaml:1: must be a mapping; write 'key: value' lines"),
    ("just words", "i.yaml:1: must be a mapping"),
    ("pods:\n", "i.yaml:1: pods: must be a list; begin each item with '- '"),
    ("cluster: x\npods: {a: b}\n", "i.yaml:2: pods: must be a list"),
    ("pods:\n- web\n", "i.yaml:2: pods[0]: must be a mapping"),
    (
        "pods:\n- {name: b, addresses: [10.0.0.1]}",
        "i.yaml:2: pods[0]: namespace is missing; add it",
    ),
    (POD + "- {namespace: a, name: c}", "i.yaml:3: pods[1]: addresses is missing; add it"),
    (
        "pods:\n- namespace: a\n  name: b\n  adresses: [10.0.0.1]\n  addresses: [10.0.0.1]",
        "i.yaml:4: pods[0].adresses: there is no field of this name here; docs/identity.md",
    ),
    (POD[:-2] + ", labels: {a: 'x,y'}}", "pods[0].labels: has a character that no label has"),
    (POD[:-2] + ", labels: {'a,b': x}}", "pods[0].labels: has a character that no label has"),
    (POD[:-2] + ", service: {a: b}}", "pods[0].service: must be text, or a list of them"),
    ("pod: []", "i.yaml:1: pod: there is no field of this name"),
    ("<<: {pods: []}", "i.yaml:1: <<: there is no field of this name"),
    ("hosts:\n- name:\n  addresses: ['::1']", "i.yaml:2: hosts[0].name: is empty; write a value"),
    ("hosts:\n- name: ''\n  addresses: ['::1']", "i.yaml:2: hosts[0].name: is empty"),
    ("hosts:\n- {name: [x], addresses: ['::1']}", "i.yaml:2: hosts[0].name: must be text"),
    ("hosts:\n- {name: " + "x" * 300 + ", addresses: ['::1']}", "longer than 253 characters"),
    ("hosts:\n- {name: x, addresses: 10.0.0.1}", "hosts[0].addresses: must be a list"),
    ("hosts:\n- {name: x, addresses: []}", "hosts[0].addresses: is empty"),
    ("hosts:\n- {name: x, addresses: [10.0.0.300]}", "'10.0.0.300' is not an IP address; write"),
    (
        "hosts:\n- {name: x, addresses: [10.0.0.0/8]}",
        "not an IP address; a range belongs into cidrs",
    ),
    ("hosts:\n- {name: x, addresses: ['fe80::1%eth0']}", "leave out what follows the %"),
    ("hosts:\n- {name: x, addresses: [~]}", "hosts[0].addresses[0]: is empty"),
    ("hosts:\n- {name: x, kind: pod, addresses: [10.0.0.1]}", "'pod' is not one of its values"),
    ("cidrs:\n- {name: x, cidr: 10.0.0.0/33}", "'10.0.0.0/33' is not a range; write e.g."),
    ("cidrs:\n- {name: x, cidr: 10.0.0.1/8}", "bits set beyond its prefix; write 10.0.0.0/8"),
    ("cidrs:\n- {name: x, cidr: banana}", "i.yaml:2: cidrs[0].cidr: 'banana' is not a range"),
    (
        POD + "hosts:\n- name: x\n  addresses:\n  - 10.0.0.2\n  - 10.0.0.1\n",
        "i.yaml:7: hosts[0].addresses[1]: this address is already in line 2; keep one of them",
    ),
    ("hosts:\n- {name: x, addresses: [10.0.0.1, '::ffff:10.0.0.1']}", "already in line 2"),
    (
        "cidrs:\n- {name: x, cidr: 10.0.0.0/8}\n- {name: y, cidr: 10.0.0.0/8}",
        "i.yaml:3: cidrs[1].cidr: this range is already in line 2",
    ),
    ("pods: [\n", "i.yaml:2: not YAML: "),
    ("a: b: c", "i.yaml:1: not YAML: "),
    ("\tpods: []", "i.yaml:1: not YAML: "),
    ("pods: []\x07", "not YAML: "),
    ("pods: []\npods: []", "i.yaml:2: pods is there twice; keep one of them"),
    ("pods: []\n---\npods: []", "i.yaml:2: a second document begins here"),
    ("x: &a [*a]", "i.yaml:1: the alias *a is not supported; write the value out"),
    ("cluster: !!python/object/apply:os.system [id]", "is not supported; leave it out"),
    ("? [a]\n: b", "i.yaml:1: a key must be text"),
    ("[" * 20_000, "i.yaml:1: nested more than 16 levels deep"),
    ("{a: " * 20_000, "i.yaml:1: nested more than 16 levels deep"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_a_wrong_inventory_gives_one_sentence(text: str, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        inventory_file.parse(text, "i.yaml")
    message = str(caught.value)
    assert said in message
    assert "\n" not in message and len(message) < 300


def test_a_file_that_cannot_be_read_gives_one_sentence(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "is a directory"), (tmp_path / "none", "no such file")):
        with pytest.raises(InventoryError, match=f"{path}: cannot be read: {said}.*; name a YAML"):
            inventory_file.read(path)


def test_a_file_that_is_not_text_says_where(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    path.write_bytes(b"pods: []\n# caf\xe9\n")
    with pytest.raises(InventoryError, match=r"i\.yaml:2: not UTF-8 text"):
        inventory_file.read(path)
    path.write_bytes(b"\x7fELF\0\0\0")
    with pytest.raises(InventoryError, match="not YAML"):
        inventory_file.read(path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    with path.open("wb") as file:
        file.truncate(inventory_file.MAX_BYTES + 1)
    with pytest.raises(InventoryError, match="larger than 64 MiB"):
        inventory_file.read(path)


@given(st.text(st.sampled_from("ab01:-[]{}&*!|>'\"%@#,?~ \n\t\x00é/."), max_size=60))
def test_any_text_is_taken_or_refused_in_one_sentence(text: str) -> None:
    try:
        inventory_file.parse(text, "i.yaml")
    except InventoryError as error:
        assert "\n" not in str(error)


_junk = st.recursive(
    st.sampled_from(["x", "10.0.0.1", "", "10.0.0.0/8", None]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["pods", "hosts", "cidrs", "name", "addresses", "cidr", "kind"]), inner
        )
    ),
    max_leaves=12,
)


@given(_junk)
def test_any_structure_is_taken_or_refused_in_one_sentence(value: object) -> None:
    import yaml

    try:
        inventory_file.parse(yaml.safe_dump(value), "i.yaml")
    except InventoryError as error:
        assert "\n" not in str(error) and str(error).startswith("i.yaml:")
