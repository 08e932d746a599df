"""Kernel drop reasons in Hubble's numbers."""

from __future__ import annotations

import pytest

from flowobs.agent import btf
from flowobs.agent.btf import Btf
from flowobs.agent.drops import ROUTES
from flowobs.drop_reasons import HUBBLE, DropReason, hubble


def test_the_usual_ones() -> None:
    assert hubble("NETFILTER_DROP") == 133
    assert hubble("NO_SOCKET") == 178
    assert hubble("IP_OUTNOROUTES") == 169
    assert hubble("TCP_LISTEN_OVERFLOW") == hubble("") == hubble("77") == 0


@pytest.mark.skipif(not btf.KERNEL.is_file(), reason="this kernel has no BTF")
def test_names_are_the_kernels() -> None:
    """Kernels have more with each release, and never rename one."""
    with Btf.kernel() as kernel:
        known = set(kernel.drop_reasons().values())
    if "VXLAN_VNI_NOT_FOUND" in known:  # 6.12: all that the table has
        assert set(HUBBLE) - known == set(ROUTES.values())
    else:
        assert {"NETFILTER_DROP", "NO_SOCKET", "TCP_CSUM"} <= known & set(HUBBLE)


def test_every_number_is_used() -> None:
    assert {*HUBBLE.values(), DropReason.DROP_REASON_UNKNOWN} == set(DropReason)
