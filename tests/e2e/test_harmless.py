"""No packet is changed, delayed into another order, or dropped because we look; and death leaves
nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.lab import HERE, MAC, V4, Lab, Stack, run, stack
from tests.e2e.traffic import frames

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

SEED, FRAMES = 20261122, 3000


def packets(capture: Path) -> list[bytes]:
    """The frames of a pcap file (little-endian, either time resolution)."""
    data = capture.read_bytes()
    at, found = 24, []
    while at + 16 <= len(data):
        _, _, size, _ = struct.unpack_from("<IIII", data, at)
        found.append(data[at + 16 : at + 16 + size])
        at += 16 + size
    return found


def captured(lab: Lab, folder: Path, name: str) -> list[bytes]:
    """Send the seeded frames from pod a and give what arrived in pod b."""
    file = folder / f"{name}.pcap"
    dump = lab.start(
        "b",
        "tcpdump",
        "-i",
        "eth0",
        "-Q",
        "in",
        "-U",
        "-s",
        "0",
        "-B",
        "16384",
        "-Z",
        "root",
        "-w",
        str(file),
        f"ether src {MAC['a']} and ether dst {MAC['b']}",
    )
    assert dump.stdout is not None
    while "listening on" not in dump.stdout.readline():
        assert dump.poll() is None
    lab.exec(
        "a",
        sys.executable,
        str(HERE / "traffic.py"),
        "frames",
        "eth0",
        str(SEED),
        str(FRAMES),
        MAC["b"],
    )
    end = time.monotonic() + 60
    while len(packets(file)) < FRAMES and time.monotonic() < end:
        time.sleep(0.2)
    dump.terminate()
    dump.wait()
    return packets(file)


def counted(flowobs: Stack) -> int:
    """Packets in records of any interface, and packets that are in none."""
    rows = flowobs.rows()
    skipped = flowobs.metric(flowobs.agent_url, "flowobs_agent_packets_skipped_total")
    return sum(r["packets"] + r["reply_packets"] for r in rows) + int(skipped)


def moved_by_links(lab: Lab) -> int:
    """Packets in and out of every interface of the node, by the interfaces' own counters."""
    both = ("rx_packets", "tx_packets")
    return sum(lab.counters(link)[way] for link in ("va", "vb", "br0") for way in both)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
@pytest.mark.parametrize("loader", ["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def test_a_capture_is_the_same_with_the_agent_on_and_off(tmp_path: Path, loader: str) -> None:
    sent = frames(SEED, FRAMES, *(bytes.fromhex(MAC[x].replace(":", "")) for x in ("a", "b")))
    with Lab() as lab:
        without = captured(lab, tmp_path, "off")
        with stack(lab, loader=loader) as flowobs:
            flowobs.settle()
            seen, moved = counted(flowobs), moved_by_links(lab)
            with_agent = captured(lab, tmp_path, "on")
            flowobs.settle()
            # hostile or not, every frame is in a record, or counted as not IP or broken
            assert counted(flowobs) - seen == moved_by_links(lab) - moved >= 2 * FRAMES
        assert without == sent
        assert with_agent == sent


def links_of(pid: int) -> set[int]:
    """Ids of the BPF links (TCX and others) that a process holds, from the kernel's fdinfo."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            for line in info.read_text().splitlines():
                if line.startswith("link_id:"):
                    found.add(int(line.split()[1]))
    return found


def links() -> set[int]:
    """Ids of all BPF links of the machine."""
    return {link["id"] for link in json.loads(run("bpftool", "-j", "link", "show"))}


def filters(lab: Lab) -> str:
    return "".join(
        run("tc", "-n", lab.ns("node"), "filter", "show", "dev", v, side)
        for v in ("va", "vb")
        for side in ("ingress", "egress")
    )


def test_a_killed_agent_leaves_traffic_flowing_and_no_filter() -> None:
    with Lab() as lab, stack(lab) as flowobs:
        lab.server(V4["b"], 8080)
        client = subprocess.Popen(
            ["ip", "netns", "exec", lab.ns("a"), sys.executable, str(HERE / "traffic.py"),
             "client", V4["b"], "8080", "12000", "100", "200", "5"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert flowobs.agent is not None
        time.sleep(0.5)
        ours = links_of(flowobs.agent.pid)
        assert len(ours) >= 6 and ours <= links(), "the agent is not attached: this proves nothing"
        assert client.poll() is None, "traffic ended before the agent was killed"
        os.kill(flowobs.agent.pid, signal.SIGKILL)
        flowobs.agent.wait()
        assert client.communicate(timeout=150)[0] == "done 12000 failed 0\n"
        end = time.monotonic() + 30
        while ours & links() and time.monotonic() < end:
            time.sleep(0.1)  # the kernel frees the links of a dead process a moment later
        assert not ours & links()
        assert filters(lab) == ""


def test_clsact_leftovers_are_cleaned_by_the_next_start() -> None:
    """Where TCX is missing, filters outlive a killed agent; the next one takes them away."""
    with Lab() as lab:
        first = Stack(lab, agent_options=("--attach", "clsact"))
        try:
            first.start_relay()
            first.start_agent()
            assert filters(lab).count("direct-action") == 4
            assert first.agent is not None
            os.kill(first.agent.pid, signal.SIGKILL)
            first.agent.wait()
            assert filters(lab).count("direct-action") == 4
            first.start_agent()
            assert filters(lab).count("direct-action") == 4
            assert lab.exec("node", "tc", "qdisc", "show").count("clsact") > 0
            first.agent.send_signal(signal.SIGTERM)
            first.agent.wait(60)
            assert filters(lab) == ""
            assert "clsact" not in lab.exec("node", "tc", "qdisc", "show")
        finally:
            first.stop()
