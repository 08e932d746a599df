"""Whatever pods come and go, and however late that is known: a record gets the right name or none.

A model of a cluster gives addresses to one pod at a time, and tells of it as Kubernetes does: of a
start late (but with a startTime before it), of an end late, in any order across nodes, and of what
happens while there is no watch only by a list afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowobs.batch import Endpoints, Strings
from flowobs.identity.addresses import AddressTable
from flowobs.identity.resolver import Resolver
from flowobs.kubernetes import objects
from flowobs.kubernetes.source import TableSource
from flowobs.kubernetes.table import Table
from tests.identity.fakes import ip
from tests.kubernetes import things
from tests.kubernetes.test_table import START, S, decoded

ADDRESSES = ("10.0.0.1", "10.0.0.2", "fd00::1")
MS = 1_000_000
LATEST = 8001 * MS
"""How late news may be. All times are integers in ns, of whole ms."""
BEGIN = (START + 200) * S


@dataclass
class Life:
    """A pod's true times and how it was told of."""

    name: str
    address: str
    start: int
    end: int
    lead: int
    told_start: int
    told_end: int
    ending: str

    def thing(self, *, over: bool = False, addressed: bool = True) -> dict[str, Any]:
        address = (self.address,) if addressed else ()
        phase = "Succeeded" if over else "Running"
        pod = things.pod(
            self.name, *address, phase=phase, started=(self.start - self.lead) // S, uid=self.name
        )
        if over and self.ending == "finished":
            state = {"terminated": {"finishedAt": things.stamp(self.end // S)}}
            pod["status"]["containerStatuses"] = [{"name": "main", "state": state}]
        return pod


def ms(least: int, most: int) -> st.SearchStrategy[int]:
    return st.integers(least, most).map(lambda n: n * MS)


Delay = ms(0, 4000)
lives = st.lists(
    st.tuples(
        st.sampled_from(ADDRESSES),
        ms(0, 3000),  # pause since the address's last holder
        ms(100, 20_000),  # how long it has it
        ms(0, 8000),  # how much earlier its startTime is
        Delay,
        Delay,
        st.sampled_from(["deleted", "succeeded", "finished"]),
    ),
    max_size=12,
)


def model(given: list[Any]) -> list[Life]:
    free = dict.fromkeys(ADDRESSES, BEGIN)
    last_told = dict.fromkeys(ADDRESSES, 0)
    found = []
    for n, (address, pause, life, lead, late_start, late_end, ending) in enumerate(given):
        start = free[address] + pause
        end = free[address] = start + life
        told_end = end + late_end
        # one node has the address, and its kubelet tells of its pods in order
        told_start = max(min(start + late_start, told_end - MS), last_told[address])
        told_end = max(told_end, told_start + MS)
        last_told[address] = told_start
        found.append(Life(f"pod-{n}", address, start, end, lead, told_start, told_end, ending))
    return found


class Cluster:
    """Tells a table of lives as time goes by; between `gap`'s two times nothing comes."""

    def __init__(self, lives: list[Life], gap: tuple[int, int]) -> None:
        self.now = BEGIN - 10 * S
        self.lives = lives
        self.gap = gap
        self.table = Table("demo", clock=lambda: self.now)
        self.table.settled()
        self.known: dict[str, objects.Object] = {}
        self.decoded: dict[tuple[str, bool, bool], objects.Object] = {}
        moments = {t for life in lives for t in (life.told_start, life.told_end)}
        early = {life.start - life.lead for life in lives}
        self.moments = sorted(moments | early | set(gap))

    def run_until(self, moment: int) -> None:
        while self.moments and self.moments[0] <= moment:
            self.now = max(self.now, self.moments.pop(0))
            if not self.gap[0] < self.now < self.gap[1]:
                # after the gap it is a list: what vanished was there when we last knew
                self._tell(self.gap[0] if self.now == self.gap[1] else None)
        self.now = max(self.now, moment)

    def _tell(self, since_ns: int | None) -> None:
        there: dict[str, objects.Object] = {}
        for life in self.lives:
            if self.now < life.start - life.lead:
                continue
            over = self.now >= life.told_end
            if over and life.ending == "deleted":
                continue
            state = life.name, over, self.now >= life.told_start
            if state not in self.decoded:
                thing = life.thing(over=over, addressed=state[2])
                self.decoded[state] = decoded("pods", thing)
            there[life.name] = self.decoded[state]
        for name in self.known.keys() - there.keys():
            self.table.remove(name, self.now if since_ns is None else since_ns)
        for name, one in there.items():
            if self.known.get(name) is not one:
                self.table.put(one, since_ns)
        self.known = there
        if since_ns is not None:
            self.table.settled()


records = st.lists(st.tuples(st.sampled_from(ADDRESSES), ms(-5000, 120_000)), max_size=25)


looks = st.lists(ms(0, 130_000), max_size=3)


# one came and went while there was no watch; its successor's startTime is of before its end
UNHEARD_OF = [
    ("10.0.0.1", 12_000 * MS, 3000 * MS, 0, 0, 0, "deleted"),
    ("10.0.0.1", 1000 * MS, 60_000 * MS, 3000 * MS, 0, 0, "deleted"),
]


@settings(max_examples=150, deadline=None)
@example(UNHEARD_OF, (10_000 * MS, 20_000 * MS), [("10.0.0.1", 14_000 * MS)], [])
@given(lives, st.none() | st.tuples(ms(0, 60_000), ms(100, 30_000)), records, looks)
def test_not_one_misattribution(
    given: list[Any],
    away: tuple[int, int] | None,
    asked: list[tuple[str, int]],
    looks: list[int],
) -> None:
    everything = model(given)
    begin = BEGIN + (away[0] if away else 10**15)
    gap = begin, begin + (away[1] if away else 0)
    cluster = Cluster(everything, gap)
    source = TableSource(cluster.table)
    names = AddressTable(Resolver([source]), capacity=8)
    endpoints, generation = Endpoints(Strings()), -1
    # in batches, as time goes by, of records that are as old as they like but not too new
    for moment in (*sorted(looks), 200 * S):
        cluster.run_until(BEGIN + moment)
        source.poll()
        known = cluster.now - LATEST
        if gap[0] < cluster.now < gap[1]:
            known = min(known, gap[0] - LATEST)
        batch = [(a, BEGIN + t) for a, t in asked if BEGIN + t <= known]
        if not batch:
            continue
        if generation != source.generation:
            generation = source.generation
            names.clear()
        addresses = np.frombuffer(b"".join(ip(a) for a, _ in batch), np.uint8).reshape(-1, 16)
        when = np.array([t for _, t in batch], np.int64)
        rows = names.lookup(addresses, when, endpoints, set()).rows.tolist()
        for (address, at), row in zip(batch, rows, strict=True):
            got = endpoints[row].name
            told = [c for c in source.explain(ip(address), at) if c.accepted]
            assert [c.endpoint.name for c in told if c.endpoint] == [got] * bool(got)
            if got:
                assert endpoints[row].labels == f"app={got}"
            check(everything, address, at, got, away is None)


def check(everything: list[Life], address: str, at: int, got: str, complete: bool) -> None:
    holder = next((p for p in everything if p.address == address and p.start <= at < p.end), None)
    if holder is not None:
        assert got in ("", holder.name)
        others = [p for p in everything if p.address == address and p is not holder]
        sure = all(at >= p.told_end + S or at < p.start - p.lead - S for p in others)
        if complete and sure:
            assert got == holder.name, "nothing else could have had it"
    elif got:
        # nobody had it: the name of one just before its start or after its end does no harm
        named = next(p for p in everything if p.name == got)
        assert named.address == address
        assert named.start - named.lead - S <= at <= named.told_end + S
