"""A program that the kernel or the compiler refuses costs its own feature, and says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowobs.agent import btf
from flowobs.agent.bpf import BpfError
from flowobs.agent.features import Program
from flowobs.agent.loader import LoadError, bcc, core
from flowobs.agent.loader.bcc import run_child

Compile = Callable[[Path], None]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

GOOD_AND_BAD = """
#include "dialect.h"
LICENSED
MAP(MT_HASH, table, u32, u64, 16)
PROGRAM("tc") int good(struct __sk_buff *skb) {
    return -1;
}
PROGRAM("tc") int unchecked(struct __sk_buff *skb) {
    u32 key = 0;
    u64 *value = MAP_GET(table, &key);
    *value += 1;
    return -1;
}
"""

CORE_ONLY = """
#include "dialect.h"
LICENSED
MAP(MT_HASH, table, u32, u64, 16)
struct sk_buff { int made_up; } __attribute__((preserve_access_index));
PROGRAM("raw_tp/kfree_skb") int made_up_member(struct bpf_raw_tracepoint_args *ctx) {
    u32 x = 0;
    KREAD(&x, (void *)ctx->args[0], sk_buff, made_up);
    return x;
}
PROGRAM("tc") int made_up_helper(struct __sk_buff *skb) {
    long (*helper)(void *) = (void *)5555;
    return helper(skb);
}
PROGRAM("tc") int wrong_helper(struct __sk_buff *skb) {
    return bpf_override_return((void *)skb, 1);
}
PROGRAM("tc") int too_large(struct __sk_buff *skb) {
    volatile u32 n = 0;
    for (u32 i = 0; i < skb->len * 1000000; i++) n += i;
    return n;
}
PROGRAM("tp_btf/made_up_tracepoint") int no_hook(void *ctx) {
    return 0;
}
PROGRAM("tc") int good(struct __sk_buff *skb) {
    return -1;
}
"""

REASONS = {
    "made_up_member": "this kernel's struct sk_buff has no member made_up",
    "made_up_helper": "this kernel has no BPF helper number 5555",
    "wrong_helper": "this kernel has no helper bpf_override_return for such programs",
    "too_large": "the program is too large for this kernel's verifier",
    "no_hook": "this kernel has no made_up_tracepoint to attach to",
}

UNCHECKED = "the kernel's verifier refused it: R0 invalid mem access 'map_value_or_null'"


def programs(source: str, *names: str, required: bool = False) -> list[Program]:
    return [Program(name, source, "tc", "ingress", "flows", "it", required) for name in names]


def test_core_names_the_verifiers_reason(sources: Path, compile_probe: Compile) -> None:
    (sources / "bad.bpf.c").write_text(GOOD_AND_BAD)
    compile_probe(sources / "bad.bpf.c")
    with core.load(sources, programs("bad.bpf.c", "good", "unchecked"), 64) as probes:
        assert list(probes.programs) == ["good"]
        assert list(probes.maps) == ["table"]
        assert probes.missing == {"unchecked": UNCHECKED}


def test_core_puts_every_kind_of_refusal_in_words(sources: Path, compile_probe: Compile) -> None:
    (sources / "bad.bpf.c").write_text(CORE_ONLY)
    compile_probe(sources / "bad.bpf.c")
    with core.load(sources, programs("bad.bpf.c", *REASONS, "good"), 64) as probes:
        assert list(probes.programs) == ["good"]
        assert probes.missing == REASONS


def test_core_says_what_is_wrong_with_an_object(sources: Path, compile_probe: Compile) -> None:
    (sources / "old.bpf.c").write_text(GOOD_AND_BAD)
    compile_probe(sources / "old.bpf.c")
    (sources / "junk.bpf.o").write_bytes(b"not an object file")
    wanted = [
        *programs("old.bpf.c", "new_program"),
        *programs("junk.bpf.c", "junk"),
        *programs("none.bpf.c", "none"),
    ]
    with core.load(sources, wanted, 64) as probes:
        assert not probes.programs
        assert "old.bpf.o has no new_program: rebuild it" in probes.missing["new_program"]
        assert "cannot open" in probes.missing["junk"]
        assert "none.bpf.o is not there: build it with make -C probes" in probes.missing["none"]


@pytest.mark.bcc
def test_bcc_names_the_verifiers_reason(sources: Path) -> None:
    (sources / "bad.bpf.c").write_text(GOOD_AND_BAD)
    with bcc.load(sources, programs("bad.bpf.c", "good", "unchecked"), 64) as probes:
        assert list(probes.programs) == ["good"]
        assert probes.missing == {"unchecked": UNCHECKED}


@pytest.mark.bcc
def test_bcc_goes_on_without_a_file_that_reads_what_this_kernel_has_not(sources: Path) -> None:
    (sources / "bad.bpf.c").write_text(CORE_ONLY)
    (sources / "good.bpf.c").write_text('#include "dialect.h"\nint good(void *ctx) { return 0; }')
    wanted = [*programs("bad.bpf.c", "made_up_member"), *programs("good.bpf.c", "good")]
    with bcc.load(sources, wanted, 64) as probes:
        assert list(probes.programs) == ["good"]
        assert probes.missing == {"made_up_member": "struct sk_buff has no member made_up here"}


@pytest.mark.bcc
def test_bcc_without_kernel_types_goes_on_with_what_needs_none(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_types() -> btf.Btf:
        raise BpfError(2, "cannot read the kernel's types")

    monkeypatch.setattr(btf.Btf, "kernel", no_types)
    (sources / "bad.bpf.c").write_text(CORE_ONLY)
    (sources / "good.bpf.c").write_text('#include "dialect.h"\nint good(void *ctx) { return 0; }')
    wanted = [*programs("bad.bpf.c", "made_up_member"), *programs("good.bpf.c", "good")]
    with bcc.load(sources, wanted, 64) as probes:
        assert list(probes.programs) == ["good"]
        assert "cannot read the kernel's types" in probes.missing["made_up_member"]


@pytest.mark.bcc
def test_a_file_that_does_not_compile_is_left_out_unless_required(sources: Path) -> None:
    (sources / "bad.bpf.c").write_text('#include "dialect.h"\nint bad(void *ctx) { return x; }')
    (sources / "good.bpf.c").write_text('#include "dialect.h"\nint good(void *ctx) { return 0; }')
    wanted = [*programs("bad.bpf.c", "bad"), *programs("good.bpf.c", "good", required=True)]
    with bcc.load(sources, wanted, 64) as probes:
        assert list(probes.programs) == ["good"]
        assert "use of undeclared identifier 'x'" in probes.missing["bad"]
    with pytest.raises(LoadError, match=r"undeclared identifier 'x'.*--loader core"):
        bcc.load(sources, programs("bad.bpf.c", "bad", required=True), 64)


def test_without_bcc_the_package_is_named(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sources / "good.bpf.c").write_text('#include "dialect.h"\nint good(void *ctx) { return 0; }')
    for python in ("/nonexistent/python", _without_bcc(sources)):
        monkeypatch.setattr(bcc, "python_with_bcc", lambda python=python: python)
        with pytest.raises(LoadError, match="install python3-bpfcc"):
            bcc.load(sources, programs("good.bpf.c", "good"), 64)


def test_a_child_that_dies_or_hangs_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LoadError, match="ended without an answer: exit status 1"):
        run_child("/bin/false", {})
    answer, _ = run_child(sys.executable, {})
    assert answer == {"error": "failed", "log": "KeyError: 'stub'"}
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(bcc, "TIMEOUT_S", 0.2)
    with pytest.raises(LoadError, match=r"did not finish within 0.2 s"):
        run_child(str(sleeper), {})


def _without_bcc(folder: Path) -> str:
    """A Python that does not see the system's packages."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return str(python)
