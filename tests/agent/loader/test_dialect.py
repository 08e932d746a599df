from __future__ import annotations

from pathlib import Path

import pytest

from flowobs.agent.loader.dialect import KernelMember, bcc_source, kernel_members, rewrite


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MAP_GET(flows_0, &k)", "flows_0.lookup(&k)"),
        ("MAP_PUT(m, &k, &v)", "m.update(&k, &v)"),
        ("if (MAP_NEW(conns, k, &fresh)) return;", "if (conns.insert(k, &fresh)) return;"),
        ("MAP_DEL(m,\n    &k)", "m.delete(&k)"),
        ("PERF_OUT(events, ctx, &e, sizeof(e))", "events.perf_submit(ctx, &e, sizeof(e))"),
        ("MY_MAP_GET(m, k)", "MY_MAP_GET(m, k)"),
    ],
)
def test_map_macros_become_method_calls(text: str, expected: str) -> None:
    assert rewrite(text) == expected


def test_definitions_of_the_macros_stay() -> None:
    text = "#define MAP_GET(m, k) \\\n    bpf_map_lookup_elem(&m, k)\nx = MAP_GET(m, k);\n"
    assert rewrite(text) == text.replace("x = MAP_GET(m, k)", "x = m.lookup(k)")


def test_own_headers_are_put_in_once_and_system_headers_stay(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("#pragma once\nint a;\n")
    (tmp_path / "b.h").write_text('#pragma once\n#include "a.h"\nint b;\n')
    (tmp_path / "1.bpf.c").write_text('#include <linux/bpf.h>\n#include "a.h"\n#include "b.h"\n')
    (tmp_path / "2.bpf.c").write_text('#include "b.h"\nint c;\n')
    text = bcc_source(tmp_path, ["1.bpf.c", "2.bpf.c"])
    assert " ".join(text.split()) == "#include <linux/bpf.h> int a; int b; int c;"


def test_kernel_members_are_found_in_the_file_and_its_headers(tmp_path: Path) -> None:
    (tmp_path / "sock.h").write_text(
        "#define KREAD(dst, ptr, type, member) read(dst, KADDR(ptr, type, member))\n"
        "/* KREAD(&x, y, comment, only) */\n"
        "void *ns = KADDR(net, net, ns);\n"
    )
    (tmp_path / "x.bpf.c").write_text(
        '#include "sock.h"\n'
        "KREAD(&family, (void *)ctx->args[0], sock_common, skc_family);\n"
        "if (dev) KREAD(&net, dev, net_device,\n    nd_net);\n"
    )
    assert kernel_members(tmp_path, "x.bpf.c") == [
        KernelMember("net", "ns"),
        KernelMember("net_device", "nd_net"),
        KernelMember("sock_common", "skc_family"),
    ]
    assert KernelMember("net", "ns").macro == "OFF_net_ns"
