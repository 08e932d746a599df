from __future__ import annotations

from pathlib import Path

import pytest

from flowobs.agent.bpf import BpfError
from flowobs.agent.bpf.programs import _PROG_INFO
from flowobs.agent.btf import KERNEL, Btf

pytestmark = pytest.mark.skipif(not KERNEL.is_file(), reason="this kernel has no BTF")


@pytest.fixture(scope="module")
def kernel() -> Btf:
    return Btf.kernel()


def test_offsets_go_through_anonymous_structs_and_unions(kernel: Btf) -> None:
    # struct { union { u64 skc_addrpair; struct { skc_daddr, skc_rcv_saddr } } } since 3.7
    assert kernel.offset("sock_common", "skc_daddr") == 0
    assert kernel.offset("sock_common", "skc_rcv_saddr") == 4
    assert kernel.offset("sock_common", "skc_family") == 16
    assert kernel.offset("sk_buff", "dev") == 16


def test_unknown_names_are_said(kernel: Btf) -> None:
    with pytest.raises(BpfError, match="struct sock has no member made_up here"):
        kernel.offset("sock", "made_up")
    with pytest.raises(BpfError, match="there is no struct made_up here"):
        kernel.layout("made_up")
    with pytest.raises(BpfError, match="there is no enum made_up here"):
        kernel.enum("made_up")


def test_bit_fields_have_no_offset(kernel: Btf) -> None:
    with pytest.raises(BpfError, match="bit field"):
        kernel.offset("tcphdr", "fin")


def test_enums_of_four_and_eight_bytes(kernel: Btf) -> None:
    assert kernel.enum("bpf_prog_type")[3] == "BPF_PROG_TYPE_SCHED_CLS"
    assert kernel.enum("tcp_ca_state")[4] == "TCP_CA_Loss"


def test_drop_reasons_have_their_short_names(kernel: Btf) -> None:
    reasons = kernel.drop_reasons()
    assert "NO_SOCKET" in reasons.values()
    assert "NETFILTER_DROP" in reasons.values()
    assert not any(name.startswith("SKB_DROP") or name == "MAX" for name in reasons.values())


def test_our_part_of_prog_info_is_the_kernels(kernel: Btf) -> None:
    members = {m.name: m.offset for m in kernel.layout("bpf_prog_info").members}
    fields = _PROG_INFO.fields
    assert fields is not None
    assert fields["run_time_ns"][1] == members["run_time_ns"]
    assert fields["run_count"][1] == members["run_cnt"]
    assert fields["name"][1] == members["name"]


def test_a_file_without_types_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BpfError, match="cannot read types from"):
        Btf.of_object(tmp_path / "none.o")
