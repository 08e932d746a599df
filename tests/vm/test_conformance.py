"""The same traffic, the same records: on the kernel of this machine and on Debian 12's 6.1.

With FLOWOBS_TEST_KERNEL=5.10 or 6.12 that one in place of 6.1.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flowobs.agent.features import PROGRAMS
from tests.e2e.lab import OF_ANYBODY, V4
from tests.vm import table
from tests.vm.conformance import CONNECTIONS, DATAGRAMS, DEVICES, GATEWAY, PINGS, TAKEN
from tests.vm.found import Row, Run

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(450)]

SIDES = (("va", "source"), ("vb", "destination"))
RESETS_WITHOUT_SOCKET = (6, 10)
IP_BYTES = {"4": 14 + 20, "6": 14 + 40}


SINCE = {"socket_owners": (5, 11), "skb_drop": (5, 17)}
"""Programs -> the first kernel that has what they need."""
TYPED = {p.name for p in PROGRAMS if p.kind in ("tp_btf", "fentry")}
CORE_ONLY = {p.name for p in PROGRAMS if p.core_only}
FUNCTION_PROGRAMS = {"owner_udp4", "owner_udp6", "owner_released"}


def only(rows: list[Row]) -> Row:
    assert len(rows) == 1, rows
    return rows[0]


def too_old_for(run: Run) -> set[str]:
    return {name for name, since in SINCE.items() if run.kernel < since}


def idle(run: Run) -> set[str]:
    return {p.name for p in PROGRAMS if p.instead_of and p.instead_of not in run.missing}


def no_socket(run: Run) -> str:
    """The reason of a drop where nobody listens."""
    return "unknown" if "skb_drop" in run.missing else "NO_SOCKET"


def test_every_program_runs(run: Run) -> None:
    # BCC has no iterators; no kernel we know refuses anything else
    without = {"socket_owners"} if run.loader == "bcc" else set()
    assert set(run.missing) == without | too_old_for(run)
    assert set(run.idle) == idle(run)


def test_no_record_is_lost(run: Run) -> None:
    others = set() if run.kernel == (6, 1) else OF_ANYBODY  # nobody else is in the virtual machine
    assert {reason for reason, n in run.dropped.items() if n} <= others


def test_doctor_says_the_same(found: dict[str, Any]) -> None:
    doctor = found["doctor"]
    assert doctor["ok"] and doctor["btf"]
    run = Run(found, "core")
    refused = {p["name"] for p in doctor["programs"] if p["needed"] and not p["attached"]}
    assert refused == too_old_for(run)
    assert doctor["tc"] == ("tcx" if run.kernel >= (6, 6) else "clsact")


def test_the_page_about_kernels_is_right(found: dict[str, Any]) -> None:
    page, series = table.page(), table.series(found["kernel"])
    known = table.columns(page)
    told = {name: run for name, run in found["runs"].items() if f"{series} {name}" in known}
    if not told:
        pytest.skip(f"docs/kernels.md says nothing about Linux {series}")
    fresh = table.capabilities([found | {"runs": told}])
    for head, cells in table.columns(fresh).items():
        assert known[head] == cells, "run as root: python -m tests.vm"
    for line in fresh.splitlines():
        assert line.startswith("|") or line in page, "run as root: python -m tests.vm"


@pytest.mark.parametrize(("veth", "forward", "back"), [("va", "rx", "tx"), ("vb", "tx", "rx")])
def test_sums_equal_the_interfaces_counters(run: Run, veth: str, forward: str, back: str) -> None:
    near, far = ("source", "destination") if veth == "va" else ("destination", "source")
    for unit in ("packets", "bytes"):
        # what pod a sends: the way there of its own flows, the way back of the other pod's
        for side, mine, other in ((forward, "", "reply_"), (back, "reply_", "")):
            told = run.total(mine + unit, interface=veth, reporter=near)
            told += run.total(other + unit, interface=veth, reporter=far)
            assert told == run.counters[veth][f"{side}_{unit}"], (side, unit)
    assert run.counters[veth]["rx_packets"] > 100


@pytest.mark.parametrize("name", ["tcp4", "tcp6", "vlan"])
def test_each_connection_opens_and_closes_once_on_either_side(run: Run, name: str) -> None:
    if reason := run.absent.get(name):
        pytest.skip(f"this kernel makes no {name} devices: {reason}")
    for veth, reporter in SIDES:
        rows = run.rows(name, interface=veth)
        for kind in ("open", "close"):
            ports = Counter(row["src_port"] for row in rows if row["kind"] == kind)
            assert ports == dict.fromkeys(run.ports[name], 1)
        assert len(run.ports[name]) == CONNECTIONS
        assert {row["reporter"] for row in rows} == {reporter}
        assert {row["dst_port"] for row in rows} == {8080}
        assert {row.get("vlan", 0) for row in rows} == {7 if name == "vlan" else 0}
        assert {r["close_reason"] for r in rows if r["kind"] == "close"} == {"fin_source"}
        if name != "vlan":  # the inventory has no names for those addresses
            assert {(r["src_name"], r["dst_name"]) for r in rows} == {("a-0", "b-0")}


def test_both_sides_of_a_nat_are_one_flow(run: Run) -> None:
    """Pod a asks the node; the node, as far as pod b can see, asks pod b.

    In a virtual machine that stands still between a packet's two hooks, its opening may be told
    without its backend: such a one is counted.
    """
    early = [r for r in run.all_rows if r["dst_ip"] == GATEWAY]
    assert {r["kind"] for r in early} <= {"open"}
    assert len({r["src_port"] for r in early}) == run.unresolved <= 2
    for veth, reporter in SIDES:
        rows = run.rows("nat4", interface=veth, virtual_ip=GATEWAY)
        assert {(r["src_ip"], r["dst_ip"], r["snat_ip"]) for r in rows} == {
            (V4["a"], V4["b"], GATEWAY)
        }
        assert {row["reporter"] for row in rows} == {reporter}
        told = rows + [r for r in early if r["interface"] == veth]
        for kind in ("open", "close"):
            ports = Counter(row["src_port"] for row in told if row["kind"] == kind)
            assert ports == dict.fromkeys(run.ports["nat4"], 1)


@pytest.mark.parametrize(
    ("name", "tunnel", "number"),
    [
        ("vxlan", "vxlan", 5),
        ("geneve", "geneve", 6),
        ("ipip", "ipip", 0),
        ("6in4", "ipip", 0),
        ("gre", "gre", 9),
    ],
)
def test_what_a_tunnel_carries_is_the_flow(run: Run, name: str, tunnel: str, number: int) -> None:
    if reason := run.absent.get(name):
        pytest.skip(f"this kernel makes no {name} devices: {reason}")
    inside = DEVICES[name].addresses
    for veth, reporter in SIDES:
        rows = run.rows(name, interface=veth)
        for kind in ("open", "close"):
            ports = Counter(row["src_port"] for row in rows if row["kind"] == kind)
            assert ports == dict.fromkeys(run.ports[name], 1)
        assert {(r["src_ip"], r["dst_ip"], r["dst_port"]) for r in rows} == {
            (inside["a"], inside["b"], 8080)
        }
        assert {(r["tunnel"], r.get("tunnel_id", 0)) for r in rows} == {(tunnel, number)}
        assert {(r["tunnel_src_ip"], r["tunnel_dst_ip"]) for r in rows} == {(V4["a"], V4["b"])}
        assert {row["reporter"] for row in rows} == {reporter}


def test_no_flow_stands_beside_the_tunnels(run: Run) -> None:
    outer = [r for r in run.all_rows if r["proto"] in ("gre", "4", "41")]
    outer += [r for r in run.all_rows if r.get("dst_port") in (4789, 6081)]
    assert [r for r in outer if r.get("interface") in ("va", "vb")] == []


def test_a_link_without_a_link_header(run: Run) -> None:
    if reason := run.absent["l3"]:
        pytest.skip(f"this kernel makes no ipip devices: {reason}")
    rows = run.rows("l3", interface="l3")
    opens = Counter(row["src_port"] for row in rows if row["kind"] == "open")
    assert opens == dict.fromkeys(run.ports["l3"], 1)
    assert {row["reporter"] for row in rows} == {"source"}
    # 5.10 does not show where a packet that comes in begins
    visible = (("tx", ""), ("rx", "reply_"))[: 1 + (run.kernel > (5, 10))]
    for side, prefix in visible:
        for unit in ("packets", "bytes"):
            told = sum(row[prefix + unit] for row in rows)
            assert told == run.counters["l3"][f"{side}_{unit}"] > 0
    below = run.rows("l3", interface="br0")
    assert {(row["tunnel"], row["reporter"]) for row in below} == {("ipip", "transit")}


def test_6_1_has_every_kind_of_link(run: Run) -> None:
    assert run.kernel != (6, 1) or not any(run.absent.values())


@pytest.mark.parametrize("name", ["loop4", "loop6"])
def test_loopback_is_told_once(run: Run, name: str) -> None:
    rows = run.rows(name, interface="lo")
    for kind in ("open", "close"):
        ports = Counter(row["src_port"] for row in rows if row["kind"] == kind)
        assert ports == dict.fromkeys(run.ports[name], 1)
    assert {row["reporter"] for row in rows} == {"source"}
    assert {row["src_pid"] for row in rows} == {run.pids["loop"]}


@pytest.mark.parametrize("version", ["4", "6"])
def test_datagrams_and_pings_to_the_byte(run: Run, version: str) -> None:
    sizes = range(100, 100 + DATAGRAMS)
    for name, packets, size in (
        ("udp", DATAGRAMS, sum(IP_BYTES[version] + 8 + n for n in sizes)),
        ("ping", PINGS, PINGS * (IP_BYTES[version] + 8)),
    ):
        for veth, reporter in SIDES:
            rows = run.rows(name + version, interface=veth, reporter=reporter)
            assert [row["kind"] for row in rows].count("open") == 1
            for way in ("", "reply_"):
                assert sum(row[f"{way}packets"] for row in rows) == packets
                assert sum(row[f"{way}bytes"] for row in rows) == size


@pytest.mark.parametrize("name", ["tcp4", "tcp6", "udp4", "udp6"])
def test_the_process_that_began_is_known(run: Run, name: str) -> None:
    for row in run.rows(name):
        if row["kind"] == "drop":  # of a segment that a slow machine sent twice
            continue
        assert row["src_pid"] == run.pids["client"]
        assert row["src_process"].startswith("python")
        # accepted sockets are found only if they live until they are looked for
        assert row.get("dst_pid") in (None, run.pids["server"])


def test_a_connection_older_than_the_agent(run: Run) -> None:
    for veth, reporter in SIDES:
        rows = run.rows("old", interface=veth)
        assert {row["kind"] for row in rows} == {"update", "close"}
        assert {(r["src_ip"], r["dst_ip"], r["reporter"]) for r in rows} == {
            (V4["a"], V4["b"], reporter)
        }
        owners = [(r.get("src_pid"), r.get("dst_pid")) for r in rows if r["kind"] == "update"]
        assert owners[-1] == (run.pids["client"], run.pids["server"])


@pytest.mark.parametrize("version", ["4", "6"])
def test_a_refused_connection(run: Run, version: str) -> None:
    name = f"refused{version}"
    failed = only(run.rows(name, kind="fail"))
    assert (failed["close_reason"], failed["verdict"]) == ("refused", "error")
    assert (failed["src_pid"], failed["src_name"]) == (run.pids["client"], "a-0")
    assert only(run.rows(name, kind="drop"))["drop_reason"] == no_socket(run)
    # older kernels do not tell of a reset that no socket sends; the drop stands for it
    sent = {"destination"} if run.kernel >= RESETS_WITHOUT_SOCKET else set()
    assert {row["reporter"] for row in run.rows(name, kind="reset")} == {"source"} | sent
    for veth, _ in SIDES:
        closed = only(run.rows(name, kind="close", interface=veth))
        assert closed["close_reason"] == "reset_destination"


def test_a_datagram_that_nobody_wants(run: Run) -> None:
    assert only(run.rows("unheard4", kind="drop"))["drop_reason"] == no_socket(run)
    told = [r for r in run.all_rows if (r["proto"], r.get("icmp_type")) == ("icmp", 3)]
    for veth, _ in SIDES:
        rows = [r for r in told if r.get("interface") == veth and r["kind"] != "open"]
        assert {(r["src_name"], r["dst_name"], r["icmp_code"]) for r in rows} == {("b-0", "a-0", 3)}
        assert sum(r["packets"] for r in rows) == 1
        error = only(run.rows("unheard4", kind="icmp_error", interface=veth))
        assert (error["dst_name"], error["proto"], error["icmp_ip"]) == ("b-0", "udp", V4["b"])
        assert (error["icmp_type"], error["icmp_code"]) == (3, 3)


def test_an_answered_ping_is_no_drop(run: Run) -> None:
    for name in ("ping4", "ping6"):
        assert "drop" not in {row["kind"] for row in run.rows(name)}


def test_a_route_that_leads_nowhere(run: Run) -> None:
    rows = run.rows("nowhere4", kind="drop")
    assert {(row["drop_reason"], row["interface"]) for row in rows} == {("route_blackhole", "br0")}
    assert sum(1 + row.get("lost", 0) for row in rows) == DATAGRAMS


def test_a_reset_by_the_client(run: Run) -> None:
    for veth, _ in SIDES:
        closed = only(run.rows("reset4", kind="close", interface=veth))
        assert closed["close_reason"] == "reset_source"
    assert {r["reporter"] for r in run.rows("reset4", kind="reset")} == {"source", "destination"}


def test_an_attempt_without_an_answer(run: Run) -> None:
    failed = only(run.rows("silent", kind="fail"))
    assert (failed["close_reason"], failed["src_pid"]) == ("timeout", run.pids["client"])
    again = len(run.rows("silent", kind="retransmit"))
    assert again >= 1, (run.dropped, run.out_of_scope)
    sent = sum(row["packets"] for row in run.rows("silent", interface="va"))
    assert sent == 1 + again


@pytest.fixture(params=["adapters", "kprobes", pytest.param("bcc-kprobes", marks=pytest.mark.bcc)])
def adapted(request: pytest.FixtureRequest, found: dict[str, Any]) -> Run:
    """With the programs of ``TAKEN`` taken away."""
    if request.param not in found["runs"]:
        pytest.skip("this kernel is built without kprobes")
    return Run(found, request.param)


def test_adapters_run_where_their_betters_are_refused(adapted: Run) -> None:
    taken = TAKEN[adapted.loader]
    refused = set(adapted.missing) - taken
    assert adapted.missing.keys() >= taken
    assert set(adapted.idle) == idle(adapted)
    if adapted.kernel < (5, 12):  # a typed hook may not ask for a cookie
        assert refused == (too_old_for(adapted) | TYPED) - taken
    else:
        if adapted.loader.startswith("bcc"):
            refused -= CORE_ONLY
        # some kernels are built without a way to attach to functions
        assert refused in (set(), FUNCTION_PROGRAMS)
        assert adapted.kernel != (6, 1) or not refused


@pytest.mark.parametrize("name", ["tcp4", "tcp6", "udp4", "udp6"])
def test_adapters_find_both_processes(adapted: Run, name: str) -> None:
    if name.startswith("udp") and "owner_released" in adapted.missing:
        pytest.skip("this kernel refuses fentry and kprobes")
    told = adapted.rows(name, kind="close" if name.startswith("tcp") else "update")
    if name.startswith("udp"):  # a drain may come before an end's first call that tells who it is
        assert {r.get("src_pid") for r in told} <= {None, adapted.pids["client"]}
        assert {r.get("dst_pid") for r in told} <= {None, adapted.pids["server"]}
        last = max(r["time"] for r in told)
        told = [r for r in told if r["time"] == last]
    assert {(r.get("src_pid"), r.get("dst_pid")) for r in told} == {
        (adapted.pids["client"], adapted.pids["server"])
    }
    assert all(r["src_process"].startswith("python") for r in told)


def test_adapters_know_at_once_who_connects(adapted: Run) -> None:
    for name in ("tcp4", "tcp6", "refused4"):
        opens = adapted.rows(name, kind="open")
        assert {r["src_pid"] for r in opens} == {adapted.pids["client"]}


def test_a_drop_without_a_reason_is_told(adapted: Run) -> None:
    if "skb_drop" not in adapted.missing:
        pytest.skip("this run has drop reasons")
    assert "unknown" in {r["drop_reason"] for r in adapted.rows("refused4", kind="drop")}


def test_a_cpu_that_comes_and_goes_loses_nothing(found: dict[str, Any]) -> None:
    if (found := found["hotplug"]) is None:
        pytest.skip("this machine is not ours alone")
    assert found["turns"] > 1
    assert not any(found["dropped"].values())
    rows = [r for r in found["rows"] if r.get("interface") == "va" and r["dst_ip"] in found["to"]]
    for kind in ("open", "close"):
        ports = Counter(r["src_port"] for r in rows if r["kind"] == kind)
        assert ports == Counter(found["ports"])
    for unit in ("packets", "bytes"):
        for side, prefix in (("rx", ""), ("tx", "reply_")):
            told = sum(r[prefix + unit] for r in rows)
            assert told == found["moved"][f"{side}_{unit}"]
    # openings are told at once again, on the CPU that went
    assert found["waves"][-1] == 0, found["waves"]
