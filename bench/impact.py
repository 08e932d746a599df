"""What an application notices of the agent: requests through a chain of services in pods, with the
agent on and off in turns of two seconds.

The main figures are of a chain as people run it, with the relay elsewhere, as in production: here
it runs only while nobody wants the CPU. ``_relay_here``: on the same cores. ``_hello``: a chain
that does next to nothing itself, so that nothing weighs more than what we do;
``_hello_new_connections``: with a connection for each request.

Each turn with the agent stands between two without it, which also tell what the machine does by
itself: they are compared with one another in the same way.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from bench import _pairs as pairs
from bench import _yardstick
from bench._chains import CHAIN, KEPT, NEW, Chains, Load, more_pods, run_seconds
from bench._switched import SwitchedStack
from flowobs.agent import bpf
from flowobs.agent.attach import Attachments
from flowobs.agent.features import PROGRAMS
from flowobs.agent.loader import Probes
from flowobs.agent.metrics import Metrics
from tests.e2e.lab import Lab
from tests.e2e.test_light import cpu_seconds

CHAINS = {CHAIN: "", KEPT: "_hello", NEW: "_hello_new_connections"}
HERE, ELSEWHERE = os.SCHED_OTHER, os.SCHED_IDLE
"""Scheduling policy of the relay."""
SECONDS = 2.0
SCHED_CLS = 3  # linux/bpf.h
_AT_INTERFACES = [program.name for program in PROGRAMS if program.kind == "tc"]

Figures = list[dict[str, object]]


class Case(NamedTuple):
    port: int
    relay: int
    busy: int
    """Turns with the agent in which clients ask for as much as they can get."""
    half: int
    """Turns with half of that, at random moments."""

    def __str__(self) -> str:
        return CHAINS[self.port] + "_relay_here" * (self.relay == HERE)


CASES = [
    Case(CHAIN, ELSEWHERE, 14, 10),
    Case(CHAIN, HERE, 6, 5),
    Case(KEPT, ELSEWHERE, 6, 5),
    Case(NEW, ELSEWHERE, 6, 5),
]


class Turn(NamedTuple):
    load: Load
    agent: float
    """CPU seconds of the agent, and of a relay that is here."""
    idle: float
    """CPU seconds of nobody."""

    @property
    def throughput(self) -> float:
        """Requests by CPU seconds that were ours: what the machine's others had, and what its host
        took, is left out. Twice that is what two cores do in a second.
        """
        return self.load.requests / (self.load.cpu + self.agent + self.idle)

    @property
    def wall_throughput(self) -> float:
        return self.load.requests / self.load.seconds

    @property
    def cpu_us(self) -> float:
        """A request's, without the agent's own."""
        return 1e6 * self.load.cpu / self.load.requests


class _Bench:
    """Chains and what observes them, all running."""

    def __init__(self, chains: Chains, flowobs: SwitchedStack, namespace: str) -> None:
        assert flowobs.agent is not None and flowobs.relay is not None
        self._namespace = namespace
        self._chains, self._flowobs = chains, flowobs
        self._agent, self._relay = flowobs.agent.pid, flowobs.relay.pid

    def run(self, case: Case) -> Figures:
        self._place(case.relay)
        self._turn(case, on=True)  # everything is warm
        busy = [self._turn(case, on=n % 2 == 1) for n in range(2 * case.busy + 1)]
        rate = statistics.median(turn.wall_throughput for turn in busy[::2]) / 2
        half = [self._turn(case, on=n % 2 == 1, rate=rate) for n in range(2 * case.half + 1)]
        figures = [
            _ratio("throughput_ratio", case, pairs.beside([turn.throughput for turn in busy])),
            _ratio("wall_ratio", case, pairs.beside([turn.wall_throughput for turn in busy])),
            _ratio("cpu_per_request_ratio", case, pairs.beside([turn.cpu_us for turn in busy])),
            _ratio("p99_ratio", case, pairs.p99([turn.load.times for turn in half])),
        ]
        return figures if case.relay == HERE else figures + self._accounted(case, busy)

    def _turn(self, case: Case, *, on: bool, rate: float = 0) -> Turn:
        self._flowobs.switch(on)
        ours, idle = self._own(case.relay), _idle()
        load = self._chains.load(case.port, SECONDS, rate)
        return Turn(load, self._own(case.relay) - ours, _idle() - idle)

    def _own(self, relay: int) -> float:
        """CPU seconds of the agent, and of a relay that is here."""
        # threads of the relay's end now and then
        return run_seconds([self._agent]) + (cpu_seconds(self._relay) if relay == HERE else 0)

    def _place(self, policy: int) -> None:
        for task in Path(f"/proc/{self._relay}/task").iterdir():
            with suppress(ProcessLookupError):  # a thread that has ended meanwhile
                os.sched_setscheduler(int(task.name), policy, os.sched_param(0))

    def _accounted(self, case: Case, busy: Sequence[Turn]) -> Figures:
        """What a request costs, and what its observation: by the kernel's account of programs and
        threads, which is exact where a comparison of throughput is not.
        """
        on = busy[1::2]
        requests = sum(turn.load.requests for turn in on)
        programs, runs, measuring = self._programs(case)
        service = statistics.median(turn.cpu_us for turn in busy[::2])
        agent = 1e6 * sum(turn.agent for turn in on) / requests
        told = {
            "cpu_us_per_request": (service, "client and services, without agent"),
            "programs_us_per_request": (
                programs,
                f"{runs:.0f} runs at interfaces, without {measuring:.0f} ns of measuring in each",
            ),
            "agent_us_per_request": (
                agent,
                f"{requests / len(on) / SECONDS:.0f} requests a second",
            ),
        }
        share = service / (service + programs + agent)
        return [
            *(_figure(f"{name}{case}", value, "us", text) for name, (value, text) in told.items()),
            _figure(f"accounted_ratio{case}", share, "", "without programs and agent", share),
        ]

    def _programs(self, case: Case) -> tuple[float, float, float]:
        """For each request at full load: microseconds of the agent's programs, and how often those
        at interfaces ran; and the nanoseconds of measuring in a run, which are taken off.
        """
        measuring = bpf.enable_stats()
        try:
            self._flowobs.switch(True)
            # the others run for all that the machine does
            began, before = time.monotonic(), self._ran()
            time.sleep(SECONDS)
            usual = (self._ran() - before)[1] / (time.monotonic() - began)
            began, before = time.monotonic(), self._ran()
            load = self._chains.load(case.port, SECONDS)
            at_interfaces, others = (self._ran() - before).astype(float)
            others -= usual * (time.monotonic() - began)
            nothing = self._nothing(case)
        finally:
            os.close(measuring)
        ran = np.array([at_interfaces, np.maximum(0.0, others)]).sum(axis=0)
        us = (ran[0] - nothing * ran[1]) / 1e3
        return us / load.requests, at_interfaces[1] / load.requests, nothing

    def _nothing(self, case: Case) -> float:
        """Nanoseconds of an empty program at the same interfaces under the same load."""
        self._flowobs.switch(False)
        with _yardstick.loaded() as program:
            probes = Probes("core", dict.fromkeys(_AT_INTERFACES, program))
            metrics = Metrics(CollectorRegistry())
            hooks = Attachments(probes, metrics, print, namespace=self._namespace)
            hooks.start()
            try:
                self._chains.load(case.port, SECONDS)
            finally:
                hooks.stop()
            ran = bpf.program_info(program)
        return ran.run_time_ns / ran.run_count

    def _ran(self) -> NDArray[np.int64]:
        """The programs that the agent holds, so far: (nanoseconds, runs) of those at interfaces,
        and of the others.
        """
        told = np.zeros((2, 2), np.int64)
        for file in Path(f"/proc/{self._agent}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # it was closed meanwhile
                lines = (line.partition(":") for line in file.read_text().splitlines())
                fields = {name: value for name, _, value in lines}
                if "run_time_ns" in fields:
                    elsewhere = int(fields["prog_type"]) != SCHED_CLS
                    told[int(elsewhere)] += int(fields["run_time_ns"]), int(fields["run_cnt"])
        return told


def _idle() -> float:
    """CPU seconds of all cores in which there was nothing to do."""
    idle, iowait = Path("/proc/stat").read_text().split(maxsplit=6)[4:6]
    return (int(idle) + int(iowait)) / os.sysconf("SC_CLK_TCK")


def _ratio(name: str, case: Case, told: tuple[pairs.Ratio, pairs.Ratio]) -> dict[str, object]:
    ratio, itself = told
    against = f"{ratio.low:.3g} to {ratio.high:.3g}; without agent, itself {itself}"
    return _figure(f"{name}{case}", ratio.value, "", against, ratio.value)


def _figure(
    metric: str, value: float, unit: str, against: str, ratio: float | None = None
) -> dict[str, object]:
    fields = {"metric": metric, "value": value, "unit": unit, "against": against, "ratio": ratio}
    return {"bench": "impact"} | fields


def run() -> Figures:
    """Needs root, nginx and clang: makes its own namespaces. Some five minutes."""
    with tempfile.TemporaryDirectory() as name, Lab() as lab, more_pods(lab):
        chains = Chains(lab, Path(name))
        chains.start()
        options = ("--inventory", str(chains.inventory))
        flowobs = SwitchedStack(lab, drain_interval=1, agent_options=options)
        try:
            flowobs.start_relay()
            flowobs.start_agent()
            bench = _Bench(chains, flowobs, f"/run/netns/{lab.ns('node')}")
            return [figure for case in CASES for figure in bench.run(case)]
        finally:
            flowobs.stop()
