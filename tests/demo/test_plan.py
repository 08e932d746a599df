from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

from flowobs.demo import inventory, network, plan, servers
from flowobs.identity import inventory_file
from flowobs.schema import EndpointKind


def test_every_address_belongs_to_one_host() -> None:
    addresses = [a for host in plan.HOSTS for a in inventory.addresses(host)]
    addresses += [*plan.NODE_ADDRESSES, plan.PARTNER_ADDRESS]

    assert len(set(map(ip_address, addresses))) == len(addresses)


def test_hosts_are_in_the_subnet_of_their_gateway() -> None:
    for host in plan.HOSTS:
        for address, gateway, length in zip(
            (host.v4, host.v6), host.gateway, host.prefix, strict=True
        ):
            subnet = ip_network(f"{gateway}/{length}", strict=False)
            assert ip_address(address) in subnet, host.name


def test_interface_names_fit_the_kernel() -> None:
    assert all(len(host.link) <= 15 for host in plan.HOSTS)


def test_namespaces_are_found_by_their_prefix() -> None:
    assert all(name.startswith(plan.PREFIX) for name in network.namespaces())


def test_link_local_address_is_made_from_the_mac() -> None:
    assert plan.link_local("02:88:00:00:00:0a") == "fe80::88:ff:fe00:a"


def test_the_inventory_names_every_address() -> None:
    entries = inventory_file.parse(inventory.text(), "inventory.yaml")

    found = {(e.kind, e.namespace, e.name) for e in entries.values()}
    assert (EndpointKind.pod, "shop", "web-0") in found
    assert (EndpointKind.host, "", "laptop") in found
    assert (EndpointKind.node, "", "node-1") in found
    assert (EndpointKind.external, "", plan.PARTNER) in found
    assert len(entries) == 3 * len(plan.HOSTS) + len(plan.NODE_ADDRESSES) + 1


def test_a_service_has_the_addresses_of_all_its_pods() -> None:
    found = [addresses for name, addresses in plan.dns_records() if name == "api.demo.test"]

    assert found == [("10.88.0.20", "fd00:88::20"), ("10.88.0.21", "fd00:88::21")]


def test_server_files_hold_the_plan(tmp_path: Path) -> None:
    servers.write_files(tmp_path)

    assert (
        "host-record=redis.demo.test,10.88.0.30,fd00:88::30"
        in (tmp_path / "dnsmasq.conf").read_text()
    )
    assert "resolver 10.88.0.53" in (tmp_path / "nginx.conf").read_text()
    assert (tmp_path / "resolv.conf").read_text().startswith("nameserver 10.88.0.53\n")


def test_a_command_is_run_inside_its_pod(tmp_path: Path) -> None:
    command = servers.inside(plan.WEB, tmp_path, ("nginx", "-h"))

    assert command[:2] == ["nsenter", "--net=/run/netns/fodemo-web-0"]
    assert command[-2:] == ["nginx", "-h"]
