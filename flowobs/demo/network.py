"""Builds and removes the demo's network, none of it in the machine's own network namespace."""

from __future__ import annotations

import subprocess
from pathlib import Path

from flowobs.agent import netns
from flowobs.cli.errors import CliError
from flowobs.demo import plan

NETNS_FOLDER = Path("/run/netns")


def build() -> None:
    """Makes all namespaces, links, addresses and routes."""
    _batch(["ip"], [f"netns add {name}" for name in namespaces()])
    _batch(["ip", "-n", plan.NODE_NS], node_commands())
    # else the first packets to a pod that has not sent any go to all of them
    ports = [f"fdb replace {pod.mac} dev {pod.link} master static" for pod in plan.PODS]
    _batch(["bridge", "-n", plan.NODE_NS], ports)
    for host in plan.HOSTS:
        _sysctl(host.netns, "ipv6/conf/eth0/router_solicitations", "0")
        # any group may ping, as systemd has it on whole machines
        _sysctl(host.netns, "ipv4/ping_group_range", "0 2147483647")
        _batch(["ip", "-n", host.netns], host_commands(host))
    _sysctl(plan.NODE_NS, "ipv4/ip_forward", "1")
    _sysctl(plan.NODE_NS, "ipv6/conf/all/forwarding", "1")


def namespaces() -> list[str]:
    return [plan.NODE_NS, *(host.netns for host in plan.HOSTS)]


def node_commands() -> list[str]:
    """`ip -batch` lines for the node: a bridge for pods, a routed uplink for the host outside."""
    bridge = [
        "link set lo up",
        f"link add br0 address {plan.BRIDGE_MAC} type bridge forward_delay 0 mcast_snooping 0",
        *(
            f"addr add {a}/{n} dev br0 nodad"
            for a, n in zip(plan.BRIDGE_ADDRESSES, (24, 64), strict=True)
        ),
        "link set br0 up",
        f"route add unreachable {plan.PARTNER_ADDRESS}/32",
    ]
    links: list[str] = []
    for host in plan.HOSTS:
        links.append(f"link add {host.link} type veth peer name eth0 netns {host.netns}")
        if host.kind == "pod":
            # the bridge alone talks IPv6 for the node
            links.append(f"link set {host.link} addrgenmode none master br0 up")
            links += _neighbours("br0", (host.v4, host.v6), host.mac)
        else:
            prefixes = zip(plan.UPLINK_ADDRESSES, host.prefix, strict=True)
            links += [f"addr add {address}/{n} dev {host.link} nodad" for address, n in prefixes]
            links.append(f"link set {host.link} address {plan.UPLINK_MAC} up")
            links += _neighbours(host.link, (host.v4, host.v6), host.mac)
    return bridge + links


def host_commands(host: plan.Host) -> list[str]:
    """`ip -batch` lines for one host. `nodad`: addresses are usable at once."""
    lines = [
        "link set lo up",
        f"link set eth0 address {host.mac}",
        f"addr add {host.v4}/{host.prefix[0]} dev eth0",
        f"addr add {host.v6}/{host.prefix[1]} dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {host.gateway[0]}",
        f"route add default via {host.gateway[1]}",
        *_neighbours("eth0", host.gateway, host.gateway_mac),
    ]
    others = plan.PODS if host.kind == "pod" else ()
    for other in others:
        if other is not host:
            lines += _neighbours("eth0", (other.v4, other.v6), other.mac)
    return lines


def _neighbours(link: str, addresses: tuple[str, str], mac: str) -> list[str]:
    """Known beforehand: neighbour discovery would be most of what a quiet network shows."""
    return [f"neigh add {a} lladdr {mac} dev {link} nud permanent" for a in addresses]


def leftover_namespaces() -> list[str]:
    """The demo's namespaces that exist now, whoever made them."""
    if not NETNS_FOLDER.is_dir():
        return []
    return sorted(path.name for path in NETNS_FOLDER.glob(f"{plan.PREFIX}*"))


def processes_inside(names: list[str]) -> list[int]:
    """Processes whose network is one of the named namespaces."""
    wanted = {_identity(NETNS_FOLDER / name) for name in names}
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _identity(folder / "ns/net") in wanted - {None}:
            found.append(int(folder.name))
    return found


def remove(names: list[str]) -> None:
    """Deletes namespaces; their links, addresses, routes and filters go with them."""
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # the process has ended
        return None
    return status.st_dev, status.st_ino


def _batch(command: list[str], lines: list[str]) -> None:
    done = subprocess.run(
        [*command, "-batch", "-"],
        input="\n".join(lines),
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[0]
        raise CliError(
            f'Cannot set up the demo\'s network: `{" ".join(command)}` says "{reason}". '
            "It needs a kernel with veth and bridge."
        )


def _sysctl(namespace: str, setting: str, value: str) -> None:
    """Sets what is under /proc/sys/net in a namespace: whose it is depends on who opens it."""
    file = Path("/proc/sys/net") / setting
    netns.call(str(NETNS_FOLDER / namespace), lambda: file.write_text(value))
