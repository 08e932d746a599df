"""From SYN to the terminal: a real connection, the real agent and relay, and a `flows` command
that prints it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable

from tests.e2e.lab import V4, Lab, stack

CONNECTIONS = 200
PAUSE = 0.05
LIMIT_MS = 250.0

CLIENT = """
import socket, sys, time
for _ in range(int(sys.argv[3])):
    s = socket.socket()
    s.bind((sys.argv[4], 0))
    print(s.getsockname()[1], time.monotonic_ns(), flush=True)
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.close()
    time.sleep(float(sys.argv[5]))
"""


def _read(lines: Iterable[str], seen: dict[int, int]) -> None:
    for line in lines:
        row = json.loads(line)
        if row["kind"] == "open" and row["reporter"] == "source":
            seen.setdefault(row["src_port"], time.monotonic_ns())


def run() -> list[dict[str, object]]:
    """Needs root: makes its own namespaces.

    Wall-clock milliseconds under light load (20 connections a second).
    """
    with Lab() as lab, stack(lab, drain_interval=1) as flowobs:
        lab.server(V4["b"], 8080)
        command = [sys.executable, "-m", "flowobs.cli.flows", "--server", flowobs.url]
        flows = subprocess.Popen(
            [*command, "--kind", "open", "-o", "json"], stdout=subprocess.PIPE, text=True
        )
        assert flows.stdout is not None
        seen: dict[int, int] = {}
        reader = threading.Thread(target=_read, args=(flows.stdout, seen))
        reader.start()
        time.sleep(2)
        words = (V4["b"], "8080", str(CONNECTIONS), V4["a"], str(PAUSE))
        out = lab.exec("a", sys.executable, "-c", CLIENT, *words, timeout=120)
        time.sleep(2)
        flows.terminate()
        flows.wait()
        reader.join()
        flows.stdout.close()
    sent = {int(port): int(at) for port, at in (line.split() for line in out.splitlines())}
    missing = sent.keys() - seen.keys()
    assert not missing, f"{len(missing)} of {CONNECTIONS} connections never reached the terminal"
    times = sorted((seen[port] - at) / 1e6 for port, at in sent.items())
    return [
        {
            "bench": "latency",
            "metric": f"syn_to_terminal_{name}_ms",
            "value": times[int(len(times) * quantile)],
            "unit": "ms",
            "against": f"limit of {LIMIT_MS:g} ms at p99",
            "ratio": times[int(len(times) * quantile)] / LIMIT_MS,
        }
        for name, quantile in (("p50", 0.5), ("p99", 0.99))
    ]
