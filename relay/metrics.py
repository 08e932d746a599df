"""The relay's metrics. Every label set is bounded by the code that sets it, never by traffic."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class RelayMetrics:
    """All series of one relay, in ``registry``."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        def counter(name: str, doc: str, *labels: str) -> Counter:
            return Counter(f"flowobs_relay_{name}", doc, labels, registry=registry)

        def gauge(name: str, doc: str, *labels: str) -> Gauge:
            return Gauge(f"flowobs_relay_{name}", doc, labels, registry=registry)

        self.records_received = counter("records_received_total", "Records that came from agents.")
        self.records_stored = counter(
            "records_stored_total",
            "Records the store confirmed; a resend it had is confirmed again.",
        )
        self.records_dropped = counter(
            "records_dropped_total", "Records given up, by reason.", "reason"
        )
        self.batches_received = counter("batches_received_total", "Micro-batches from agents.")
        self.groups_stored = counter("groups_stored_total", "Commit groups written to the store.")
        self.groups_resent = counter(
            "groups_resent_total", "Commit groups that came again though the relay had them."
        )
        self.refused = counter("streams_refused_total", "Agent streams ended, by reason.", "reason")
        self.insert_errors = counter("insert_errors_total", "Inserts that failed and were retried.")
        self.swept_bytes = counter(
            "swept_bytes_total", "Bytes on disk that were dropped for time or size."
        )
        self.sweep_errors = counter("sweep_errors_total", "Times that dropping them failed.")
        self.subscriber_dropped = counter(
            "subscriber_dropped_total", "Records that live subscribers were too slow for."
        )
        self.insert_seconds = Histogram(
            "flowobs_relay_insert_seconds",
            "Time one insert into the store took.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.batch_rows = Histogram(
            "flowobs_relay_batch_rows",
            "Records in a micro-batch.",
            buckets=(1, 10, 100, 1_000, 10_000, 50_000),
            registry=registry,
        )
        self.store_lag = gauge(
            "store_lag_seconds", "Age of the oldest commit group that is not stored yet."
        )
        self.queue_rows = gauge("queue_rows", "Records waiting to be written to the store.")
        self.agents_connected = gauge("agents_connected", "Agents with an open stream.")
        self.live_subscribers = gauge("live_subscribers", "Open live subscriptions.")
        self.identity_objects = gauge(
            "identity_objects", "Objects of the cluster that are known, by resource.", "resource"
        )
        self.identity_age = gauge(
            "identity_age_seconds",
            "Time since the API server was heard of, by resource.",
            "resource",
        )
        self.identity_stale = gauge(
            "identity_stale",
            "1 while names from this resource may be out of date: not learnt yet, or no news.",
            "resource",
        )
        self.identity_requests = gauge(
            "identity_requests", "Requests made to the API server since the relay started."
        )
        self.identity_agents = gauge("identity_agents", "Agents that get names from this relay.")
        self.identity_lag = gauge(
            "identity_lag_seconds",
            "For how long the slowest of them has not had the newest names.",
        )
        self.identity_changes = gauge(
            "identity_changes", "Changes of objects told to agents since the relay started."
        )
        self.identity_snapshots = gauge(
            "identity_snapshots",
            "Times that an agent was told all there is: it was new, or too far behind.",
        )
        self.identity_log_bytes = gauge(
            "identity_log_bytes", "Memory held by changes that an agent may still ask for."
        )
        for reason in DROP_REASONS:
            self.records_dropped.labels(reason)
        for reason in REFUSAL_REASONS:
            self.refused.labels(reason)
        Gauge(
            "flowobs_build_info",
            "Always 1; the labels say what runs.",
            ("version", "component"),
            registry=registry,
        ).labels(version, "relay").set(1)


DROP_REASONS = ("expired",)
"""``expired``: older than the retention when they came."""

REFUSAL_REASONS = ("hello", "schema_version", "malformed", "duplicate_agent", "too_many_agents")
"""Why an agent's stream was ended."""
