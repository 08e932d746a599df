"""What an agent is told: the command line's answers, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Configuration of one agent. ``drain_interval`` is in seconds."""

    relay: str = "127.0.0.1:4243"
    loader: Literal["auto", "core", "bcc"] = "auto"
    node: str = ""
    """Name of this node; empty: the host name."""
    netns: str = ""
    """Network namespace to observe: a name under /run/netns or a path; empty: our own."""
    interfaces: tuple[str, ...] = ()
    """Globs of interfaces to observe; empty: all."""
    exclude_interfaces: tuple[str, ...] = ()
    attach: Literal["auto", "tcx", "clsact"] = "auto"
    """How programs get on an interface: TCX where the kernel has it, else a clsact filter."""
    cgroup: str = ""
    """cgroup v2 folder below which socket owners are noted; empty: the root of the mount."""
    inventory: Path | None = None
    identity: Literal["relay", "kubernetes", "host", "none"] = "relay"
    """host: this machine names its own addresses and sockets; kubernetes: its cluster's API server
    does, too; relay: the cluster does that the relay watches, if it watches one.
    """
    kubeconfig: Path | None = None
    """How to reach the cluster; None: as a pod of it."""
    cluster_name: str = ""
    """What its endpoints are said to be of; empty: the name in the kubeconfig, if there is one."""
    drain_interval: float = 1.0
    flow_entries: int = 65536
    spool_dir: Path | None = None
    """Disk for records that the relay has not stored and memory has no room for; None: no disk."""
    spool_mb: int = 1024
    metrics: str = "127.0.0.1:9465"
    insecure: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_json: bool = False
