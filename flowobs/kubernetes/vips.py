"""Addresses of services and nodes."""

from __future__ import annotations

from collections.abc import Iterable

from flowobs.kubernetes.addresses import packed
from flowobs.kubernetes.objects import Node, Service


def service_addresses(service: Service) -> tuple[bytes, ...]:
    """All families' cluster addresses, external ones and the load balancer's; headless: none."""
    spec = service.spec
    ingress = service.status.loadBalancer.ingress or ()
    return _distinct(
        (
            *(spec.clusterIPs or (spec.clusterIP,)),
            *(spec.externalIPs or ()),
            *(address.ip for address in ingress),
        )
    )


def node_addresses(node: Node) -> tuple[bytes, ...]:
    """Internal and external ones; host names are no addresses."""
    return _distinct(address.address for address in node.status.addresses or ())


def _distinct(texts: Iterable[str]) -> tuple[bytes, ...]:
    found = (packed(text) for text in texts)
    return tuple(dict.fromkeys(address for address in found if address is not None))
