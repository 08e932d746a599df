"""The thread between kernel and sink: reads the ring, drains the flow maps, hands over batches."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.agent import bpf
from flowobs.agent.clock import Clock
from flowobs.agent.decode import LOSSES, Decoded, Decoder
from flowobs.agent.drain import BATCH_ROWS, Counters, FlowDrain
from flowobs.agent.features import PROGRAMS
from flowobs.agent.loader import Probes
from flowobs.agent.members import joined
from flowobs.agent.metrics import Metrics
from flowobs.agent.records import EVENT
from flowobs.agent.retransmits import Retransmits
from flowobs.agent.ring import RingReader
from flowobs.batch import Endpoints, FlowBatch, Strings
from flowobs.schema import Kind

Enrich = Callable[[Decoded], FlowBatch]
Sink = Callable[[FlowBatch], None]
Release = Callable[[bool], Sequence[FlowBatch]]
"""What was held back and need not wait any longer; with True: all of it."""

_LATE_S, _FILLED = 0.3, 0.25
"""Seconds after which something was due, and how full the ring is: from there on we are behind."""


class Pipeline:
    """Moves records of ``probes`` to ``sink``, named by ``enrich``; both are called in its thread.

    Events wait at most ``flush_interval()`` seconds, flows ``drain_interval``; ``on_drain`` is
    called before each drain; what ``enrich`` holds back, ``release`` gives out later. ``on_pace``
    hears whether we are behind. ``drop_reasons`` are the running kernel's, ``netns`` is the inode
    of the observed network namespace. Once ``table_full`` says so of the batches' endpoint table,
    later batches have a new one. ``on_crash`` hears what ended the thread if not ``stop``:
    nothing is read any more.
    """

    def __init__(
        self,
        probes: Probes,
        enrich: Enrich,
        sink: Sink,
        metrics: Metrics,
        on_crash: Callable[[BaseException], None],
        *,
        drop_reasons: Mapping[int, str],
        netns: int,
        table_full: Callable[[Endpoints], bool],
        on_drain: Callable[[], None] = lambda: None,
        release: Release = lambda everything: (),
        on_pace: Callable[[bool], None] = lambda behind: None,
        drain_interval: float = 1.0,
        flush_interval: Callable[[], float] = lambda: 0.125,
    ) -> None:
        self._probes = probes
        self._netns = netns
        self._enrich = enrich
        self._sink = sink
        self._release = release
        self._metrics = metrics
        self._on_crash = on_crash
        self._table_full = table_full
        self._on_drain = on_drain
        self._on_pace = on_pace
        self._drain_interval = drain_interval
        self._flush_interval = flush_interval
        self._decoder = Decoder(Endpoints(Strings()), drop_reasons)
        self._clock = Clock()
        self._pending: list[NDArray[Any]] = []
        self._pending_events = 0
        self._losing = False
        self._stopping = -1
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)

    def start(self) -> None:
        """Wire up the ring and begin. Attach programs after it, lest their first events are lost.

        Raises OSError where the kernel refuses the ring or a map.
        """
        maps = self._probes.maps

        self._drain = FlowDrain(maps)
        again = bpf.map_info(maps["retransmits_0"]).max_entries
        self._retransmits = Retransmits(self._netns, most=again)
        programs = self._probes.programs
        traced = [programs[p.name] for p in PROGRAMS if p.traced and p.name in programs]
        self._counters = Counters(maps["stats"], maps["overflow"], traced)
        self._ring = RingReader(maps["events"], EVENT.dtype)
        self._stopping = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread.start()

    def stop(self) -> None:
        """Hand over all that is left, then end. Detach the programs first, so that it is all."""
        if self._stopping < 0:
            return
        os.eventfd_write(self._stopping, 1)
        self._thread.join()
        self._ring.close()
        os.close(self._stopping)
        self._stopping = -1

    def _run(self) -> None:
        try:
            with select.epoll() as waiting:
                for fd in (*self._ring.filenos, self._stopping):
                    waiting.register(fd, select.EPOLLIN)
                self._loop(waiting)
            for _ in range(2):  # each drain empties the map that was active: both, then
                self._drain_flows()
            self._let_go(everything=True)
        except BaseException as error:
            self._on_crash(error)

    def _loop(self, waiting: select.epoll) -> None:
        now = time.monotonic()
        next_flush, next_drain = now + self._flush_interval(), now + self._drain_interval
        while True:
            due = min(next_flush, next_drain)
            ready = waiting.poll(max(0.0, due - now))
            if ready and any(fd == self._stopping for fd, _ in ready):
                return
            # A ring that wakes us is only emptied; the rest is paid once per interval.
            now = time.monotonic()
            self._collect(late=now - due > _LATE_S)
            if now >= next_drain:
                self._drain_flows()
                for fd in self._ring.follow(losing=self._losing):
                    waiting.register(fd, select.EPOLLIN)
                next_drain = max(next_drain, now) + self._drain_interval
            elif now >= next_flush or self._pending_events >= BATCH_ROWS:
                self._flush()
                self._let_go()
            else:
                continue
            now = time.monotonic()
            next_flush = now + self._flush_interval()

    def _collect(self, late: bool = False) -> None:
        if found := self._ring.read():
            self._pending += found
            events = sum(map(len, found))
            self._pending_events += events
            self._metrics.ring_events.inc(events)
        self._on_pace(late or self._ring.fill > _FILLED)

    def _flush(self) -> None:
        if not self._pending:
            return
        events = joined(self._pending)
        self._pending.clear()
        self._pending_events = 0
        for start in range(0, len(events), BATCH_ROWS):
            decoder = self._current_decoder()
            self._hand_over(
                decoder.events(events[start : start + BATCH_ROWS], self._clock.offset_ns())
            )

    def _drain_flows(self) -> None:
        started = time.perf_counter()
        self._on_drain()
        unsure, first = self._drain.unsure_waits, True
        for keys, flows in self._drain.drain():
            if first:
                self._begin_drain()
                first = False
            # Here, after the maps were switched: so the opening of each of these flows goes before.
            self._collect(late=time.perf_counter() - started > _LATE_S)
            self._flush()
            again, decoder = self._retransmits.of(keys), self._current_decoder()
            self._hand_over(decoder.flows(keys, flows, self._clock.offset_ns(), again))
        if first:
            self._begin_drain()
        self._collect()
        self._flush()
        self._let_go()
        self._account()
        self._metrics.fill_ratio.set(self._drain.fill / self._drain.capacity)
        self._metrics.unsure_drains.inc(self._drain.unsure_waits > unsure)
        self._metrics.drain_seconds.observe(time.perf_counter() - started)

    def _begin_drain(self) -> None:
        """Take what was drained beside the flows."""
        self._retransmits.begin(*self._drain.retransmits)
        if len(self._drain.held):
            self._pending.append(self._drain.held.copy())

    def _account(self) -> None:
        """Tell what programs could not: as metrics, and as records, where people look at flows."""
        deltas = self._counters.read()
        metrics, stats = self._metrics, deltas.stats
        metrics.ring_lost.inc(stats["event_lost"][0])
        metrics.held.inc(stats["event_held"][0])
        metrics.ring_late.inc(stats["open_late"][0])
        self._losing = any(stats[name][0] for name in ("event_lost", "event_held", "open_late"))
        metrics.forgotten.inc(stats["forgotten"][0])
        metrics.overflow_packets.inc(stats["map_full"][0])
        metrics.overflow_bytes.inc(stats["map_full"][1])
        for reason in ("not_ip", "unparsed"):
            metrics.skipped_packets.labels(reason).inc(stats[reason][0])
        for reason, records in (
            *((reason, stats[counter][0]) for reason, counter in LOSSES.items()),
            ("unknown_event", self._decoder.take_unknown()),
            ("broken_event", self._ring.take_odd()),
        ):
            metrics.dropped.labels(reason).inc(records)
        losses = self._current_decoder().losses(deltas, time.time_ns())
        if losses is not None:
            self._hand_over(losses)

    def _current_decoder(self) -> Decoder:
        if self._table_full(self._decoder.endpoints):
            self._let_go(everything=True)  # it is of the old table
            self._decoder.endpoints = Endpoints(Strings())
        return self._decoder

    def _hand_over(self, decoded: Decoded) -> None:
        batch = self._enrich(decoded)
        self._let_go()  # of the same flows, and before them
        self._deliver(batch)

    def _let_go(self, everything: bool = False) -> None:
        for batch in self._release(everything):
            self._deliver(batch)

    def _deliver(self, batch: FlowBatch) -> None:
        if not len(batch):
            return
        self._metrics.batch_rows.observe(len(batch))
        for kind, rows in enumerate(np.bincount(batch["kind"]).tolist()):
            if rows:
                self._metrics.received.labels(Kind(kind).name).inc(rows)
        self._sink(batch)
