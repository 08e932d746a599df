"""What records say of each connection is what ``ss`` says of its sockets."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from flowobs.rows import time_text
from tests.e2e.lab import V4, V6, Lab, Stack
from tests.truth.kernel import Watch
from tests.truth.test_connections import rules
from tests.truth.test_owners import more, talking

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

FLOWS = 30  # of each family


class Socket(NamedTuple):
    """A line of ss: smoothed RTT and segments sent again."""

    srtt_us: int
    retransmits: int


def lines(lab: Lab, pod: str) -> list[str]:
    """What ss says of connections with port 7000: two lines each."""
    words = ("-tinH", "state", "established", "( sport = :7000 or dport = :7000 )")
    return lab.exec(pod, "ss", *words).splitlines()


def unacknowledged(lab: Lab, pod: str) -> bool:
    return any("unacked:" in line for line in lines(lab, pod))


def ss(lab: Lab, pod: str) -> dict[tuple[str, int], Socket]:
    """Those connections, by address and port of the client."""
    said = lines(lab, pod)
    found = {}
    for ends, numbers in zip(said[::2], said[1::2], strict=True):
        local, peer = ends.split()[2:4]
        address, _, port = (local if pod == "a" else peer).rpartition(":")
        rtt = re.search(r"\brtt:([\d.]+)/", numbers)
        again = re.search(r"\bretrans:\d+/(\d+)", numbers)
        assert rtt is not None
        found[address.strip("[]"), int(port)] = Socket(
            round(float(rtt[1]) * 1000), int(again[1]) if again else 0
        )
    return found


def test_smoothed_rtt_and_retransmits(running: tuple[Lab, Stack]) -> None:
    """Every seventh segment with data is lost on its way to the server, for a while."""
    lab, flowobs = running
    watch = Watch(lab, flowobs)
    lossy = "tcp dport 7000 meta length > 400 numgen inc mod 7 == 0 drop"
    with ExitStack() as clients:
        held = [
            clients.enter_context(talking(lab, "tcp", address, 7000, FLOWS))
            for address in (V4["b"], V6["b"])
        ]
        with rules(lab, "b", "input", lossy):
            for client in held:
                more(client)
        # what was lost is sent again, and the last acknowledgement may be late
        flowobs.wait(lambda: not any(unacknowledged(lab, pod) for pod in "ab"), "agent")
        flowobs.new_interval()
        told = {pod: ss(lab, pod) for pod in "ab"}
        began = time_text(time.time_ns())
        for client in held:
            more(client)
        watch.read()
        assert {pod: len(sockets) for pod, sockets in told.items()} == {
            "a": 2 * FLOWS,
            "b": 2 * FLOWS,
        }
        now = ss(lab, "a")  # a machine that stood still meanwhile sent more again
        assert now.keys() == told["a"].keys()

        again = {key: sockets.retransmits for key, sockets in now.items()}
        assert sum(again.values()) == watch.proc["a"]["Tcp.RetransSegs"] >= 2 * FLOWS // 7
        for reporter in ("source", "destination"):
            mine = watch.select(kind="update", proto="tcp", reporter=reporter)
            back = sum(r.get("reply_retransmits", 0) for r in mine)
            assert back == watch.proc["b"]["Tcp.RetransSegs"]
            for key, retransmits in again.items():
                flow = [r for r in mine if (r["src_ip"], r["src_port"]) == key]
                assert sum(r.get("retransmits", 0) for r in flow) == retransmits
                # read off the socket at the interval's first packet: nothing had answered it yet
                late = sorted((r for r in flow if r["time"] > began), key=lambda r: str(r["time"]))
                for pod, side in (("a", "src"), ("b", "dst")):
                    first = next(r[name] for r in late if (name := f"{side}_srtt_us") in r)
                    assert first == told[pod][key].srtt_us, (key, pod, reporter)
