"""Who the ends of rollups are: asked once, kept within bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowobs.filters import EVERYTHING
from relay.store import Table
from relay.store.ends import Ends
from relay.store.paths import Paths
from relay.store.plan import Plan, Slice

HOUR = 3600 * 10**9
PATHS = Paths(Plan((Slice("flows_1h", HOUR, 2 * HOUR),)), EVERYTHING)


class Asked:
    """Answers who ``ends`` (id -> node, workload, last byte of its address) are, and counts."""

    def __init__(self, ends: dict[int, tuple[str, str, int]]) -> None:
        self.ends = ends
        self.times = 0

    def __call__(self, sql: str, parameters: dict[str, Any]) -> Table:
        self.times += 1
        found = {id: end for id, end in self.ends.items() if str(id) in sql}
        columns: dict[str, list[Any]] = {
            "label": [label for label, _, _ in found.values()],
            "fields": [
                (1, "", "", f"{label}-{ip}", workload, "", "", "", "")
                for label, workload, ip in found.values()
            ],
            "ids": [[id] for id in found],
            "ips": [[bytes(15) + bytes([ip])] for _, _, ip in found.values()],
        }
        return Table(columns, len(found))


def ids(*numbers: int) -> Any:
    return np.array(numbers, "<u8")


def test_an_end_is_asked_for_once_and_by_group() -> None:
    ask, ends = Asked({11: ("a", "", 1), 12: ("b", "", 2), 13: ("b", "", 3)}), Ends()
    known = ends.known(ask, PATHS, "pod", ids(11, 12))
    assert ends.known(ask, PATHS, "pod", ids(12)) is known
    assert ask.times == 1
    known = ends.known(ask, PATHS, "pod", ids(11, 13))
    assert list(map(known.label_of, known.places(ids(11, 12, 13)))) == ["a", "b", "b"]
    ends.known(ask, PATHS, "workload", ids(11))
    assert ask.times == 3


def test_who_is_not_known_yet_is_asked_for_again() -> None:
    ask, ends = Asked({}), Ends()
    known = ends.known(ask, PATHS, "pod", ids(11))
    assert known.places(ids(11)).tolist() == [known.size]
    assert known.label_of(known.size) == ""
    ask.ends = {11: ("a", "", 1)}
    known = ends.known(ask, PATHS, "pod", ids(11, 12))
    assert known.places(ids(11, 12)).tolist() == [0, 1]
    assert known.nodes(np.array([0, 1]), ids(11, 12), np.array([5, 6]))["id"] == ["a"]


def test_the_end_seen_last_tells_what_a_node_is() -> None:
    of_a = {id: ("a", "owner" if id == 30 else "", id) for id in range(20, 41)}
    ask = Asked(of_a | {50: ("b", "", 1), 51: ("b", "", 2), 52: ("c", "", 3)})
    which = ids(*ask.ends)
    known = Ends().known(ask, PATHS, "pod", which)
    used = known.places(ids(20, 50))
    nodes = known.nodes(used, which, np.arange(len(which)))
    assert nodes["id"] == ["a", "b"]
    # one that has an owner goes before all that have none
    assert [fields[3] for fields in nodes["fields"]] == ["a-30", "b-2"]
    last = [[address[15] for address in addresses] for addresses in nodes["addresses"]]
    assert last == [[30, *range(40, 30, -1), *range(29, 24, -1)], [2, 1]]
    few = which[which != 51]
    assert known.nodes(used, few, np.arange(len(few)))["fields"][1][3] == "b-1"


def test_what_is_kept_is_bounded() -> None:
    ask = Asked({id: (str(id), "", 1) for id in range(7000, 7010)})
    ends = Ends(most=5)
    for group, which in (("pod", (7000, 7001, 7002)), ("node", (7003, 7004)), ("pod", (7000,))):
        ends.known(ask, PATHS, group, ids(*which))
    assert ask.times == 2
    ends.known(ask, PATHS, "zone", ids(7005))  # the sixth: all others are forgotten
    ends.known(ask, PATHS, "zone", ids(7005))
    ends.known(ask, PATHS, "pod", ids(7000))
    assert ask.times == 4
    for times in (5, 6):  # more than may be kept
        known = ends.known(ask, PATHS, "address", ids(*range(7000, 7010)))
        assert (known.size, ask.times) == (10, times)


def test_what_is_new_costs_what_is_new() -> None:
    numbers = np.random.default_rng(1).permutation(np.arange(10_000, 13_000))
    ask = Asked({id: (f"n{id % 7}", "", id % 5) for id in numbers.tolist()})
    ends, copied = Ends(), 0
    before: set[int] = set()
    for new in np.split(numbers, 300):
        known = ends.known(ask, PATHS, "pod", new.astype("<u8"))
        copied += sum(len(run.ids) for run in known.runs if id(run) not in before)
        before = {id(run) for run in known.runs}
        assert len(known.runs) <= 4
    assert copied < 30 * len(numbers)
    places = known.places(numbers.astype("<u8"))
    assert [known.label_of(i) for i in places.tolist()] == [f"n{id % 7}" for id in numbers.tolist()]
    assert (len(known), known.size) == (3_000, 7)
    nodes = known.nodes(places, numbers.astype("<u8"), numbers)
    newest = {f"n{id % 7}": f"n{id % 7}-{id % 5}" for id in range(10_000, 13_000)}
    assert {n: f[3] for n, f in zip(nodes["id"], nodes["fields"], strict=True)} == newest
