from __future__ import annotations

import errno

import pytest

from flowobs.agent.loader.reasons import explain


@pytest.mark.parametrize(
    ("number", "log", "warnings", "expected"),
    [
        (
            errno.EINVAL,
            "0: (85) call bpf_get_netns_cookie#122\nunknown func bpf_get_netns_cookie#122\n"
            "processed 1 insns (limit 1000000)",
            [],
            "this kernel has no helper bpf_get_netns_cookie for such programs",
        ),
        (
            errno.EACCES,
            "0: (bf) r6 = r1\n; return x\nR2 type=alloc_mem expected=fp\nprocessed 5 insns\n",
            [],
            "the kernel's verifier refused it: R2 type=alloc_mem expected=fp",
        ),
        (
            errno.EINVAL,
            "failed to resolve CO-RE relocation <enumval_value> [9] enum bpf_x::Y = 1 (0:0)\n",
            [],
            "this kernel has no enum bpf_x::Y = 1",
        ),
        (errno.EPERM, "", ["libbpf: failed to load object 'x'"], "not permitted, capab"),
        (
            errno.EINVAL,
            "",
            ["libbpf: map 'x': unsupported type", "libbpf: failed to load object 'x'"],
            "map 'x': unsupported type",
        ),
        (errno.EBUSY, "", [], "the kernel refused it: Device or resource busy"),
    ],
)
def test_a_refusal_is_one_sentence(
    number: int, log: str, warnings: list[str], expected: str
) -> None:
    assert explain(number, log, warnings).startswith(expected)
