"""Which process holds a socket: cookie -> pid, command and cgroup, remembered past its end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.agent.bound import BoundSockets
from flowobs.agent.records import OWNER
from flowobs.batch import FlowBatch, Strings, is_nothing
from flowobs.identity.keytable import KeyTable
from flowobs.memory import zeros

Array = NDArray[Any]

SOCKET_OWNER = np.dtype([("cookie", "<u8"), ("owner", OWNER.dtype)])
"""A row of the iterator over all sockets: u64 cookie, then struct owner."""

Lookup = Callable[[NDArray[np.uint64]], tuple[NDArray[np.bool_], Array]]
"""Cookies (n,) u8 -> (found (n,) bool, owners (n,) OWNER; rows not found are not looked at)."""
Sockets = Callable[[], Array]
"""All sockets that have a process, dtype SOCKET_OWNER. Costs time with every open file."""

_WAITS_S = (0.5, 2.0, np.inf)
"""After a try in vain, wait so long for the next: a socket may be accepted after its packets."""
_DUMP_EVERY_S = 0.5
# numpy compares with its own numbers many times faster than with an enum's
_TCP, _UDP = np.uint8(socket.IPPROTO_TCP), np.uint8(socket.IPPROTO_UDP)


class _Known:
    """Owners by cookie. Row 0 is nobody; cookies have rows from 1."""

    def __init__(self, capacity: int) -> None:
        self.table = KeyTable(capacity)
        self.owners = zeros(capacity + 1, OWNER.dtype)
        self.made_in = zeros(capacity + 1, np.uint64)
        """[row]: cgroup of who made it, as the hooks say."""
        self.processes = zeros(capacity + 1, np.uint32)
        self.tries = zeros(capacity + 1, np.uint8)
        self.retry_at = zeros(capacity + 1, np.float64)
        self.retry_at[0] = np.inf
        self.gone = zeros(capacity + 1, np.bool_)
        """[row]: nobody is known, or who made the listener that the socket is from has ended, or
        listens for others."""
        self.gone[0] = True

    def find(self, cookies: Array) -> NDArray[np.intp]:
        """Rows of cookies, 0 where a cookie is not known."""
        return self.table.find(cookies) + 1

    def add(self, cookies: Array) -> NDArray[np.intp]:
        return self.table.add(cookies) + 1


class OwnerTable:
    """Owners of sockets, from the kernel's ``owners`` map; for those not in it, from ``sockets``.

    Keeps between ``capacity`` and twice as many of the sockets seen last: when the young half is
    full it becomes the old half, and what is seen again moves back. ``sockets`` rests at least
    ``rest`` times the CPU time it took. ``bound`` knows sockets that no packet tells of.
    """

    def __init__(
        self,
        lookup: Lookup,
        sockets: Sockets | None = None,
        *,
        capacity: int = 1 << 16,
        rest: float = 10,
        bound: BoundSockets | None = None,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.process_time,
    ) -> None:
        self.generation = 0
        """Raised when numbers given earlier no longer hold."""
        self.dumps = 0
        """Times the iterator ran."""
        self.unknown = 0
        """Sockets whose owner was not found in any try."""
        self._lookup = lookup
        self._sockets = sockets
        self._rest = rest
        self._bound = bound
        self._capacity = capacity
        self._clock = clock
        self._cost = cost
        self._young = _Known(capacity)
        self._old = _Known(1)
        self._next_dump = -np.inf
        self._holding = np.zeros(0, np.uint32)
        self._strings: Strings | None = None
        self._numbers: dict[bytes, int] = {}
        self._processes = [np.zeros(1, OWNER.dtype)[0]]
        self._values: dict[str, Array] = {
            "process": np.zeros(1, np.uint32),
            "pid": np.zeros(1, np.uint32),
            "cgroup": np.zeros(1, np.uint64),
        }
        """By number of a process: what its ends get."""

    def fill(self, batch: FlowBatch) -> NDArray[np.uint32]:
        """Set pid, process and cgroup of both ends where the owner of their socket is known.

        Returns numbers of their processes, shape (2, n): sources, destinations; 0 = unknown. They
        hold until ``generation`` changes; ``pid`` and ``command`` say whose they are.
        """
        columns = batch.columns
        cookies = np.concatenate((columns["src_cookie"], columns["dst_cookie"]))
        udp = columns["proto"] == _UDP
        if np.count_nonzero(udp) and self._bound is not None:
            silent = ((cookies == 0).reshape(2, -1) & udp).reshape(-1).nonzero()[0]
            if silent.size:
                cookies[silent] = _at(self._bound, columns, silent)
                columns["src_cookie"], columns["dst_cookie"] = cookies.reshape(2, -1)
        rows = np.zeros(len(cookies), np.intp)
        have = cookies.nonzero()[0]
        if have.size:
            self._speak(batch.endpoints.strings)
            for _ in range(2):
                generation = self.generation
                rows[have] = self._rows(cookies[have], have, udp)
                ended = (cookies[len(batch) :] != 0) & self._young.gone[rows[len(batch) :]]
                gone = len(batch) + (ended & (columns["proto"] == _TCP)).nonzero()[0]
                if gone.size and self._bound is not None:
                    # accepted and closed again: whoever listens there will do
                    listeners = _at(self._bound, columns, gone)
                    holders = self._rows(listeners, gone, columns["proto"] == _TCP)
                    rows[gone] = np.where(holders, holders, rows[gone])
                if self.generation == generation:
                    break  # else rows found before are of the half that is the old one now
        processes = self._young.processes.take(rows).reshape(2, -1)
        for side, numbers in zip(("src", "dst"), processes, strict=True):
            if not np.count_nonzero(numbers):
                continue
            for name, values in self._values.items():
                told, mine = columns[f"{side}_{name}"], values.take(numbers)
                # What the packet itself told is about this very moment: it stays.
                columns[f"{side}_{name}"] = mine if is_nothing(told) else np.where(told, told, mine)
        return processes

    def pid(self, number: int) -> int:
        """Id of a process; 0 of number 0."""
        return int(self._processes[number]["pid"])

    def command(self, number: int) -> str:
        """Command name of a process; empty of number 0."""
        return command_text(self._processes[number]["comm"].tobytes())

    def _rows(self, cookies: Array, ends: Array, handed: Array) -> NDArray[np.intp]:
        """Rows of the cookies at some ends (numbers of sources, then of destinations), 0 where
        nobody is known. ``handed`` [record]: who made the destination's may have handed it on.
        """
        now = self._clock()
        rows = self._young.find(cookies)
        ask = (rows == 0) | (self._young.retry_at[rows] <= now)
        if np.count_nonzero(ask):
            generation = self.generation
            at = ends[ask] - len(handed)
            doubted = cookies[ask][(at >= 0) & handed[at]]
            self._learn(np.unique(cookies[ask])[: self._capacity], now, doubted)
            rows = self._young.find(cookies)
            if self.generation != generation:
                # Those that were known are in the old half now: they come back as far as they fit.
                left = np.unique(cookies[rows == 0])[: self._young.table.room]
                self._learn(left, now, doubted)
                rows = self._young.find(cookies)
        return np.where(self._young.owners["pid"][rows], rows, 0)

    def _learn(self, cookies: Array, now: float, doubted: Array) -> None:
        """Take in ascending ``cookies`` that are new, in the old half, or due for another try."""
        rows = self._young.find(cookies)
        new = rows == 0
        full = np.count_nonzero(new) > self._young.table.room
        if full or len(self._processes) > self._capacity:  # any process may rename itself
            self._old, self._young = self._young, _Known(self._capacity)
            self.generation += 1
            self._numbers.clear()
            del self._processes[1:]
            self._values = {name: values[:1] for name, values in self._values.items()}
            new[:] = True
        rows[new] = self._young.add(cookies[new])
        young, old = self._young, self._old
        young.retry_at[rows[new]] = now
        if len(old.table):
            before = np.where(new, old.find(cookies), 0)
            moved, back = rows[before > 0], before[before > 0]
            young.owners[moved], young.tries[moved] = old.owners[back], old.tries[back]
            young.retry_at[moved] = old.retry_at[back]
            young.gone[moved], young.made_in[moved] = old.gone[back], old.made_in[back]
        due = young.retry_at[rows] <= now
        if due.any():
            self._ask(cookies[due], rows[due], now, np.isin(cookies[due], doubted))
        young.processes[rows] = self._number(young.owners[rows])

    def _ask(self, cookies: Array, rows: Array, now: float, doubted: Array) -> None:
        found, owners = self._lookup(cookies)
        young = self._young
        known = (young.owners["pid"][rows] != 0) & (young.owners["inherited"][rows] == 0)
        new = found & ~known  # what the iterator told stays
        young.owners[rows[new]] = owners[new]
        young.made_in[rows[new]] = owners["cgroup"][new]
        resting = self._sockets is not None and now < self._next_dump
        # A listener's owner will do for a socket that is gone; of others, who accepted is known.
        unsure = (young.owners["pid"][rows] == 0) | (young.owners["inherited"][rows] != 0)
        if (unsure | doubted).any():
            listed = self._from_sockets(cookies, now)
            told = unsure & (listed["pid"] != 0)
            young.owners[rows[told]] = listed[told]
        vain = (young.owners["pid"][rows] == 0) | (young.owners["inherited"][rows] != 0)
        young.retry_at[rows[~vain]] = np.inf
        holding = np.isin(young.owners["pid"][rows], self._holding)
        young.gone[rows] = vain & ~holding
        tried = rows[vain]
        if resting:  # that was no try: the iterator has not been asked
            again = rows[vain | doubted]
            # the hooks may tell sooner of one that is accepted: when it is closed
            accepted = young.owners["inherited"][again] != 0
            young.retry_at[again] = np.where(accepted, now, self._next_dump)
            return
        wait = np.asarray(_WAITS_S)[young.tries[tried]]
        young.tries[tried] += 1
        young.retry_at[tried] = now + wait
        nobody = young.owners["pid"][tried] == 0
        self.unknown += int(np.count_nonzero(np.isinf(wait) & nobody))

    def _from_sockets(self, cookies: Array, now: float) -> Array:
        """Owners of ascending ``cookies`` as the iterator tells; empty ones where it does not."""
        owners = np.zeros(len(cookies), OWNER.dtype)
        if self._sockets is None or now < self._next_dump:
            return owners
        before = self._cost()
        listed = self._sockets()
        self.dumps += 1
        rest = max(_DUMP_EVERY_S, self._rest * (self._cost() - before))
        self._next_dump = self._clock() + rest
        self._holding = np.setdiff1d(listed["owner"]["pid"], _sharing(listed))
        self._correct(listed)
        at = np.searchsorted(cookies, listed["cookie"])
        at[at == len(cookies)] = 0
        mine = cookies[at] == listed["cookie"]
        owners[at[mine]] = listed["owner"][mine]
        return owners

    def _correct(self, listed: Array) -> None:
        """Who made a socket may have given it to another process and ended, or become another
        program: then the one that holds it now is its owner. So is one of another cgroup: systemd
        goes on holding what it listens to for a service.
        """
        young = self._young
        rows = young.find(listed["cookie"])
        known = (rows > 0) & (young.owners["pid"][rows] != 0)
        rows, holders = rows[known], listed["owner"][known]
        owners, made_in = young.owners[rows], young.made_in[rows]
        same = (owners["pid"] == holders["pid"]) & (owners["comm"] == holders["comm"]).all(axis=1)
        abroad = (made_in != 0) & (holders["cgroup"] != made_in)
        order = np.lexsort((same, abroad, rows))
        best = order[np.diff(rows[order], append=-1) != 0]
        best = best[~same[best]]
        young.owners[rows[best]] = holders[best]
        young.processes[rows[best]] = self._number(holders[best])

    def _speak(self, strings: Strings) -> None:
        """Command names become ids of ``strings``."""
        if strings is not self._strings:
            self._strings = strings
            ids = [self._command_id(who) for who in self._processes]
            self._values["process"] = np.array(ids, np.uint32)

    def _number(self, owners: Array) -> NDArray[np.uint32]:
        """Numbers of processes: what is done for each distinct one is not done for each socket."""
        names = owners.view(f"V{OWNER.dtype.itemsize}")
        distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        numbers = np.zeros(len(distinct), np.uint32)
        before = len(self._processes)
        for i, name in enumerate(distinct.tolist()):
            owner = owners[first[i]]
            if not owner["pid"]:
                continue
            number = self._numbers.setdefault(name, len(self._processes))
            if number == len(self._processes):
                self._processes.append(owner.copy())
            numbers[i] = number
        new = self._processes[before:]
        for name, told in (
            ("process", [self._command_id(owner) for owner in new]),
            ("pid", [owner["pid"] for owner in new]),
            ("cgroup", [owner["cgroup"] for owner in new]),
        ):
            values = self._values[name]
            self._values[name] = np.concatenate((values, np.array(told, values.dtype)))
        return numbers[inverse]

    def _command_id(self, owner: np.void) -> int:
        assert self._strings is not None
        return self._strings.id(command_text(owner["comm"].tobytes()))


def _sharing(listed: Array) -> Array:
    """Processes that hold a socket which one of another cgroup holds, too."""
    cookies, owners = listed["cookie"], listed["owner"]
    order = np.lexsort((owners["cgroup"], cookies))
    same = np.diff(cookies[order]) == 0
    pairs = order[:-1][same & (np.diff(owners["cgroup"][order]) != 0)]
    shared = np.isin(cookies, cookies[pairs])
    return owners["pid"][shared]


def _at(bound: BoundSockets, columns: Mapping[str, Array], which: Array) -> NDArray[np.uint64]:
    """Cookies at some of the ends, ascending: the sources, then the destinations."""
    count = len(columns["proto"])
    sources = np.searchsorted(which, count)
    src, dst = which[:sources], which[sources:] - count
    return bound.find(
        columns["proto"].take(np.concatenate((src, dst))),
        np.concatenate((columns["src_ip"].take(src, 0), columns["dst_ip"].take(dst, 0))),
        np.concatenate((columns["src_port"].take(src), columns["dst_port"].take(dst))),
    )


def command_text(comm: bytes) -> str:
    """A kernel command name (NUL-padded) as text that is safe to print: anybody can choose one."""
    text = comm.split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)
