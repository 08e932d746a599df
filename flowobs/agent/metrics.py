"""What the agent tells Prometheus about itself: received, sent, dropped by reason."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import flowobs

_ROWS = (1, 10, 100, 1_000, 10_000, 100_000)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The agent's own series, in a registry of the caller's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.received = Counter(
            "flowobs_agent_records_received",
            "Records made from what the kernel told, by kind.",
            ("kind",),
            registry=registry,
        )
        self.sent = Counter(
            "flowobs_agent_records_sent",
            "Records that the relay has acknowledged as stored.",
            registry=registry,
        )
        self.dropped = Counter(
            "flowobs_agent_records_dropped",
            "Records lost, by reason.",
            ("reason",),
            registry=registry,
        )
        self.skipped_packets = Counter(
            "flowobs_agent_packets_skipped",
            "Packets seen but counted in no flow, by reason.",
            ("reason",),
            registry=registry,
        )
        self.ring_events = Counter(
            "flowobs_agent_ring_events", "Events read from the ring.", registry=registry
        )
        self.held = Counter(
            "flowobs_agent_events_held",
            "Events held back by a rate limit or a full ring: the drain tells of like ones as one.",
            registry=registry,
        )
        self.ring_lost = Counter(
            "flowobs_agent_ring_lost", "Events that found the ring full.", registry=registry
        )
        self.ring_late = Counter(
            "flowobs_agent_ring_late",
            "Openings that found the ring full: told with their flow's first counts.",
            registry=registry,
        )
        self.forgotten = Counter(
            "flowobs_agent_connections_forgotten",
            "Connections that were not remembered until they ended: they may open again.",
            registry=registry,
        )
        self.fill_ratio = Gauge(
            "flowobs_agent_flow_map_fill_ratio",
            "How full the flow map was at the last drain; at 1 flows find no room.",
            registry=registry,
        )
        self.overflow_packets = Counter(
            "flowobs_agent_flow_map_overflow_packets",
            "Packets whose flow found no room in the flow map.",
            registry=registry,
        )
        self.overflow_bytes = Counter(
            "flowobs_agent_flow_map_overflow_bytes",
            "Bytes whose flow found no room in the flow map.",
            registry=registry,
        )
        self.batch_rows = Histogram(
            "flowobs_agent_batch_rows", "Records in a batch.", buckets=_ROWS, registry=registry
        )
        self.drain_seconds = Histogram(
            "flowobs_agent_drain_seconds",
            "Time to drain, decode, name and hand over the flow map.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.unsure_drains = Counter(
            "flowobs_agent_unsure_drains",
            "Drains on a kernel that refuses to wait for running programs.",
            registry=registry,
        )
        self.links_attached = Gauge(
            "flowobs_agent_links_attached", "Interfaces that are observed.", registry=registry
        )
        self.attach_failures = Counter(
            "flowobs_agent_attach_failures",
            "Failed attempts to attach a program.",
            registry=registry,
        )
        self.link_overruns = Counter(
            "flowobs_agent_link_overruns",
            "Times that interface changes came too fast and all were listed anew.",
            registry=registry,
        )
        self.program_loaded = Gauge(
            "flowobs_agent_program_loaded",
            "1 where the kernel runs this program, 0 where it refused it.",
            ("program", "feature"),
            registry=registry,
        )
        self.connected = Gauge(
            "flowobs_agent_relay_connected",
            "1 while a relay takes our records.",
            registry=registry,
        )
        self.spool_bytes = Gauge(
            "flowobs_agent_spool_bytes",
            "Memory held by records that the relay has not stored yet.",
            registry=registry,
        )
        self.spool_disk_bytes = Gauge(
            "flowobs_agent_spool_disk_bytes",
            "Disk held by records that the relay has not stored yet.",
            registry=registry,
        )
        self.out_of_scope = Gauge(
            "flowobs_agent_records_out_of_scope",
            "Records left out because they are not of the observed network namespace.",
            registry=registry,
        )
        self.nat_available = Gauge(
            "flowobs_agent_nat_available",
            "1 while the kernel tells of translated connections (conntrack).",
            registry=registry,
        )
        self.nat_translations = Gauge(
            "flowobs_agent_nat_translations",
            "Translated connections that are known, those lately ended too.",
            registry=registry,
        )
        self.nat_overruns = Counter(
            "flowobs_agent_nat_overruns",
            "Times that translations came too fast and all were listed anew.",
            registry=registry,
        )
        self.nat_lost = Counter(
            "flowobs_agent_nat_lost",
            "Keys of translations that found no room or could not be read.",
            registry=registry,
        )
        self.nat_unresolved = Counter(
            "flowobs_agent_nat_unresolved",
            "Connections whose opening was told before it was known that they are translated.",
            registry=registry,
        )
        self.identity_age = Gauge(
            "flowobs_agent_identity_age_seconds",
            "Time since the API server was heard of, by resource; relay: since the relay was;"
            " inventory: since its file could last be used.",
            ("resource",),
            registry=registry,
        )
        self.identity_stale = Gauge(
            "flowobs_agent_identity_stale",
            "1 while names from this resource may be out of date: not learnt yet, or no news.",
            ("resource",),
            registry=registry,
        )
        self.identity_objects = Gauge(
            "flowobs_agent_identity_objects",
            "Objects known of a resource.",
            ("resource",),
            registry=registry,
        )
        self.identity_requests = Gauge(
            "flowobs_agent_identity_requests",
            "Requests made to the API server since the agent started.",
            registry=registry,
        )
        self.identity_changes = Gauge(
            "flowobs_agent_identity_changes",
            "Changes of the cluster that the relay told since the agent started.",
            registry=registry,
        )
        self.identity_snapshots = Gauge(
            "flowobs_agent_identity_snapshots",
            "Times that the relay told all of the cluster: at the start, or after too long a gap.",
            registry=registry,
        )
        self.identity_held = Gauge(
            "flowobs_agent_identity_held",
            "Records held back for a moment because their pod had no name yet.",
            registry=registry,
        )
        self.identity_held_named = Gauge(
            "flowobs_agent_identity_held_named",
            "Of the records held back, those that got a name by it.",
            registry=registry,
        )
        self.identity_conflicts = Gauge(
            "flowobs_agent_identity_conflicts",
            "Times that two were said to have one address at once, so that neither was named.",
            registry=registry,
        )
        build = Gauge(
            "flowobs_build_info", "1, labelled with the version.", ("version",), registry=registry
        )
        build.labels(flowobs.__version__).set(1)
